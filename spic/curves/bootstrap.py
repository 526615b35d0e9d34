"""How far numbers would move with other pictures: a paired bootstrap over the pictures of a comparison.

Of the N pictures N are drawn with replacement, RESAMPLES times, by a fixed seed; in each draw all curves, and the
uncompressed network, are scored anew on the same pictures. An interval holds the middle LEVEL of the draws (percentile
method, Efron 1979). It knows of the chance in the pictures, not of that in a training: for that, seeds are trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spic.curves.bjontegaard import interpolated, risen
from spic.curves.comparison import Comparison, Curve, Point
from spic.curves.samples import Rows, Samples
from spic.errors import SpicError
from spic.record import Record

RESAMPLES, SEED, LEVEL = 2000, 0, 0.95
ANSWERED = 0.95  # of the draws that must give a number, for an interval to be stated


@dataclass(frozen=True)
class Interval:
    """low, high: of the middle LEVEL of the draws; infinite where a curve often does not get there."""

    low: float
    high: float

    def text(self, number: Callable[[float], str]) -> str:
        """Both ends, as ``number`` writes them."""
        if math.isnan(self.low):
            return "not known"
        return f"over {number(self.low)}" if math.isinf(self.high) else f"{number(self.low)} to {number(self.high)}"

    def above(self, value: float) -> bool:
        return self.low > value

    def below(self, value: float) -> bool:
        return self.high < value


UNKNOWN = Interval(math.nan, math.nan)


def interval(draws: np.ndarray) -> Interval:
    """Of a number's draws [R]; NaN marks a draw without an answer."""
    known = draws[~np.isnan(draws)]
    if len(known) < ANSWERED * len(draws):
        return UNKNOWN
    return Interval(*np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf").tolist())


def draw(images: int) -> np.ndarray:
    """How often each image is in each draw, float32 [R, N]; rows sum to N."""
    return np.random.default_rng(SEED).multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(np.float32)


class Bootstrap:
    """Draws of a comparison whose points have a row per image.

    comparison: what is compared. rows: where those of its records lie.
    """

    def __init__(self, comparison: Comparison, rows: Rows):
        self.comparison, self.rows = comparison, rows
        self._cells: dict[str, tuple[np.ndarray, ...]] = {}
        self._rates: dict[tuple, np.ndarray] = {}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the images, in the order of the first point that has rows; empty where none has."""
        found = (self.rows.of(record) for curve in self.comparison.curves for point in curve.points for record in point.records)
        return next((samples.names for samples in found if samples), ())

    @cached_property
    def weights(self) -> np.ndarray:
        return draw(len(self.names))

    def covers(self, curve: Curve) -> bool:
        """Whether all points of a curve have their rows."""
        records = [record for point in curve.drawable() for record in point.records]
        return bool(records) and all(map(self.rows.of, records))

    def accuracies(self, point: Point) -> np.ndarray:
        """[R], the mean over its seeds."""
        return np.mean([self._drawn(record)[2] for record in point.records], axis=0)

    def uncompressed(self, point: Point) -> np.ndarray:
        """[R], of the network alone on the same images."""
        return np.mean([self._drawn(record)[3] for record in point.records], axis=0)

    def rates(self, point: Point, rate: str) -> np.ndarray:
        """[R], bits per pixel; the record's own number tells how many pixels an image has."""
        column = 1 if rate == "bpp_wire" else 0
        return np.mean([self._drawn(record)[column] for record in point.records], axis=0)

    def rates_at(self, curve: Curve, drop: float, rate: str = "bpp") -> np.ndarray:
        """[R], bits per pixel at some points under the uncompressed network: infinite where the curve does not get there,
        its least measured rate where all of it lies above."""
        key = curve.name, drop, rate
        if key not in self._rates:
            self._rates[key] = self._find_rates(curve, drop, rate)
        return self._rates[key]

    def _find_rates(self, curve: Curve, drop: float, rate: str) -> np.ndarray:
        points = curve.drawable()
        rates = np.stack([self.rates(point, rate) for point in points], 1)
        accuracies = np.stack([self.accuracies(point) for point in points], 1)
        wanted = self.uncompressed(points[0]) - drop * self.comparison.unit.drop
        return np.array([reached(*risen(*row, curve.pooled), goal) for *row, goal in zip(rates, accuracies, wanted)])

    def times(self, ours: Curve, rivals: Iterable[Curve], drop: float = 1, rate: str = "bpp") -> Interval:
        """Of how many times fewer bits ours needs than the rival that needs the fewest, in each draw."""
        least = np.min([self.rates_at(rival, drop, rate) for rival in rivals], axis=0)
        with np.errstate(invalid="ignore"):  # infinite by infinite: neither gets there
            return interval(least / self.rates_at(ours, drop, rate))

    def _drawn(self, record: Record) -> tuple[np.ndarray, ...]:
        """(payload bpp, wire bpp, accuracy, uncompressed accuracy) of a record in every draw, [R] each."""
        mark = record.more["per_image"]
        if mark not in self._cells:
            self._cells[mark] = self._draw_record(record, self._checked(record))
        return self._cells[mark]

    def _checked(self, record: Record) -> Samples:
        samples = self.rows.of(record)
        if samples.names != self.names:
            raise SpicError(f"{record.split_point or record.codec}: measured on other pictures, or in another order, than the rest; "
                            "intervals need the same ones: measure again")
        return samples

    def _draw_record(self, record: Record, samples: Samples) -> tuple[np.ndarray, ...]:
        images = len(self.names)
        per_byte = record.bpp / samples.payload.mean() if record.bpp else 0.0
        bits = [self.weights @ column * (per_byte / images) for column in (samples.payload, samples.wire)]
        scores = [record.of.score_of_sums(self.weights @ summands, images) for summands in (samples.own, samples.plain)]
        return *bits, *scores


def reached(rates: np.ndarray, accuracies: np.ndarray, wanted: float) -> float:
    """The rate at an accuracy of a curve that rises; infinite above all of it, the least rate below."""
    if not len(rates) or wanted > accuracies[-1]:
        return math.inf
    return float(rates[0]) if wanted < accuracies[0] else interpolated(rates, accuracies, wanted)

