"""Records (of val.py, of the rivals, of a study) → curves of one data set and one network.

Records of the same curve and setting but different seeds become one point with a mean and a deviation.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from spic.errors import SpicError
from spic.record import Record, Results, read_results
from spic.rivals.codecs import family
from spic.rivals.features import FEATURE_CODECS
from spic.rivals.learned.recipes import CURVES as LEARNED
from spic.tasks import AGREEMENT, TASKS, Score

CODEC_NAMES = {"jpeg": "JPEG", "webp": "WebP", "jpeg2000": "JPEG 2000", "avif": "AVIF", "hevc": "HEVC", "av1": "AV1",
               "label": "Label", "classmap": "Class map"}
OURS, RIVAL, ANSWER = "ours", "rival", "answer"
"""Kinds of curves: operating points of a split network; what carries a picture or an untrained feature, or is another
learned way; and what sends the answer itself, which is no rival of the papers' and drawn beside them."""
ANSWERS = ("label", "classmap")
VARIANTS = ("coder", "tables", "amp")  # stand in a curve's name where a set of results mixes them
RATES = {"bpp": "bits per pixel, payload", "bpp_wire": "bits per pixel, all bytes sent"}


@dataclass(frozen=True)
class Point:
    """One marker: means over seeds, and deviations where there are several.

    bpp: of the rate that is compared; payload_bpp, bpp_wire: the same point's payload and all bytes sent.
    """

    setting: str
    bpp: float
    accuracy: float
    bpp_wire: float = math.nan
    bpp_deviation: float = 0.0
    accuracy_deviation: float = 0.0
    seeds: int = 1
    payload_bpp: float = math.nan
    records: tuple[Record, ...] = field(default=(), repr=False, compare=False)

    def mean(self, value: Callable[[Record], float]) -> float:
        """Mean of a number over the point's records; NaN where there are none."""
        return statistics.fmean(map(value, self.records)) if self.records else math.nan

    def at(self, rate: str) -> float:
        """Payload bits (bpp) or all bits sent (bpp_wire) per pixel."""
        return self.bpp_wire if rate == "bpp_wire" else self.bpp if math.isnan(self.payload_bpp) else self.payload_bpp

    def cost(self, key: str) -> float:
        """Mean of one of the fields of Costs over the records that hold it; NaN where none does."""
        costs = [getattr(record.costs, key) for record in self.records if record.costs is not None]
        known = [value for value in costs if value is not None]
        return statistics.fmean(known) if known else math.nan


@dataclass(frozen=True)
class Curve:
    """points: by rising bpp. kind: OURS, RIVAL or ANSWER."""

    name: str
    points: tuple[Point, ...]
    kind: str = RIVAL

    @property
    def pooled(self) -> bool:
        """Whether points in the wrong order are averaged; of others the best count."""
        return self.kind == OURS

    def counted_in(self, rate: str) -> Curve:
        """The same points at their payload bits (bpp) or all their bits (bpp_wire)."""
        points = [replace(point, bpp=point.at(rate)) for point in self.points]
        return replace(self, points=tuple(sorted(points, key=lambda point: point.bpp)))

    def line(self) -> list[Point]:
        """The points that a line may join: of a rival's several settings those that no other point beats."""
        points, kept = self.drawable(), []
        for point in points:
            if self.pooled or not kept or point.accuracy > kept[-1].accuracy:
                kept.append(point)
        return kept

    def drawable(self) -> list[Point]:
        """Points with a finite accuracy and a rate that a logarithmic axis can show."""
        return [p for p in self.points if math.isfinite(p.accuracy) and math.isfinite(p.bpp) and p.bpp > 0]


@dataclass(frozen=True)
class Comparison:
    """All that one figure shows. score: key of what stands for accuracy, one of the task's or agreement."""

    task: str
    benchmark: str
    curves: tuple[Curve, ...]
    baseline: float
    images: int | None = None
    notes: tuple[str, ...] = ()
    title: str = ""
    rate: str = "bpp"
    score: str | None = None

    @property
    def unit(self) -> Score:
        """The score that stands for accuracy; the task's first where none is named."""
        known = {score.key: score for score in (*TASKS[self.task].scores, AGREEMENT)}
        return known[self.score] if self.score else TASKS[self.task].scores[0]

    def uncompressed(self, drop: float = 0) -> float:
        """The uncompressed accuracy less ``drop`` points."""
        return self.baseline - drop * self.unit.drop


def read(paths: Iterable[Path | str], rate: str = "bpp") -> Comparison:
    """Files of results and folders of them → one comparison; SpicError when they do not belong into one figure."""
    return compare(read_results(paths), rate)


def compare(results: Results, rate: str = "bpp") -> Comparison:
    """Records → one comparison. results.sources, where given, name the files in errors."""
    records = results.records
    if not records:
        raise SpicError("no results found: name JSON files written by val.py or spic rivals, or folders of them")
    sources = dict(zip(map(id, records), results.sources))
    _check_one_origin(records, sources)
    first, score = records[0], _score(records)
    curves = tuple(_curve(name, members, rate, sources) for name, members in _by_curve(records).items())
    notes = [f"{name} is missing: {reason}" for name, reason in sorted(results.missing.items())]
    return Comparison(first.task, first.benchmark, curves, _baseline(records, score), first.images,
                      tuple(notes + _conditions(records) + _uncoded(records) + _left_out(curves)), rate=rate, score=score.key)


def _check_one_origin(records: Iterable[Record], sources: dict[int, str]) -> None:
    """One figure, one data set: same task, benchmark and number of images."""
    for keys, what in ((("task", "benchmark"), "data sets"), (("images",), "numbers of images")):
        origins: dict[str, str] = {}
        for record in records:
            origins.setdefault(" ".join(str(getattr(record, key)) for key in keys), sources.get(id(record), "one record"))
        if len(origins) > 1:
            named = "; ".join(f"{origin} in {source}" for origin, source in list(origins.items())[:3])
            raise SpicError(f"different {what} do not belong into one figure: {named}")


def _score(records: Iterable[Record]) -> Score:
    scores = {score.key: score for record in records for score in [record.of.accuracy(record.scores)]}
    if len(scores) > 1:
        raise SpicError(f"results with and without labels do not belong into one figure: some are scored by {' and some by '.join(scores)}")
    return next(iter(scores.values()))


def _baseline(records: Iterable[Record], score: Score) -> float:
    """Accuracy of the uncompressed network, one for all."""
    values = [record.baseline_accuracy for record in records if math.isfinite(record.baseline_accuracy)]
    if not values:
        return math.nan
    if max(values) - min(values) > score.same:
        raise SpicError(f"the results come from different networks: uncompressed {score.label} "
                        f"from {score.text(min(values))} to {score.text(max(values))}")
    return statistics.median(values)


def _name(record: Record) -> str:
    if record.curve:
        return record.curve
    if not record.codec:
        return record.split_point
    codec = CODEC_NAMES.get(family(record.codec), record.codec)
    return f"{record.split_point} {codec}" if record.split_point else codec


def _by_curve(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by curve; what varies inside a name (Huffman and rANS, say) is added to the name."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[_name(record)].append(record)
    curves: dict[str, list[Record]] = defaultdict(list)
    for name, members in groups.items():
        varying = [key for key in VARIANTS if len({getattr(member, key) for member in members}) > 1]
        for member in members:
            curves[" ".join([name, *(_variant(member, key) for key in varying)])].append(member)
    return dict(sorted(curves.items(), key=lambda item: _place(item[0], item[1][0])))


def _setting(record: Record) -> str:
    """The compress factor, the quality, or of a codec set otherwise its name and quality."""
    if record.quality is None:
        return str(record.compress_factor)
    return f"{record.quality}" if family(record.codec) == record.codec else f"{record.codec} {record.quality}"


def _variant(record: Record, key: str) -> str:
    """``rans``, ``position``; what is true or false by its name, as in ``amp`` and ``no amp``."""
    value = getattr(record, key)
    return str(value) if not isinstance(value, bool) else key if value else f"no {key}"


def _place(name: str, record: Record) -> tuple[int, str]:
    """Split points come first, then picture codecs in their usual order, then all else."""
    if not record.codec and not record.curve:
        return 0, name
    order = list(CODEC_NAMES.values())
    return (1 + order.index(name), name) if name in order else (len(order) + 1, name)


def _curve(name: str, records: list[Record], rate: str, sources: dict[int, str]) -> Curve:
    settings: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        settings[_setting(record)].append(record)
    points = [_point(name, setting, members, rate, sources) for setting, members in settings.items()]
    return Curve(name, tuple(sorted(points, key=lambda point: point.bpp)), _kind(records[0]))


def _kind(record: Record) -> str:
    return ANSWER if record.codec in ANSWERS else RIVAL if record.codec else OURS


def kind_of(name: str) -> str:
    """The kind of a curve of which no more than its name is known."""
    answers = [CODEC_NAMES[codec] for codec in ANSWERS]
    rivals = {*CODEC_NAMES.values(), *FEATURE_CODECS, *LEARNED.values()}
    return ANSWER if name in answers else RIVAL if {name, name.partition(" ")[2]} & rivals else OURS


def _point(name: str, setting: str, records: list[Record], rate: str, sources: dict[int, str]) -> Point:
    by_seed: dict[int | None, Record] = {}
    for record in records:
        twin = by_seed.setdefault(record.seed, record)
        if repr((twin.bpp, twin.accuracy)) != repr((record.bpp, record.accuracy)):
            files = " and ".join(sources.get(id(one), "another record") for one in (twin, record))
            raise SpicError(f"{name} {setting}: {files} differ but name the same seed")
        if twin.costs is None:  # a run keeps its points twice, first without their costs
            by_seed[record.seed] = record
    kept = tuple(by_seed.values())
    rates, accuracies = [getattr(record, rate) for record in kept], [record.accuracy for record in kept]
    several = len(kept) > 1
    return Point(setting, statistics.fmean(rates), statistics.fmean(accuracies),
                 statistics.fmean(record.bpp_wire for record in kept), statistics.stdev(rates) if several else 0.0,
                 statistics.stdev(accuracies) if several else 0.0, len(kept),
                 statistics.fmean(record.bpp for record in kept), kept)


def _conditions(records: Iterable[Record]) -> list[str]:
    """Each codec's chroma format, settings and version, once."""
    lines = {}
    for record in records:
        if record.codec:
            variant = "" if family(record.codec) == record.codec else f" ({record.codec})"
            name = f"{_name(record)}{variant}"
            lines[name] = f"{name}: chroma {record.chroma}, {record.settings}; {', '.join(record.versions.values())}"
    return [lines[name] for name in sorted(lines)]


def _uncoded(records: Iterable[Record]) -> list[str]:
    """Published points whose bits are not all that crosses."""
    most: dict[str, int] = {}
    for record in records:
        if record.uncoded_values_per_image:
            most[_name(record)] = max(most.get(_name(record), 0), record.uncoded_values_per_image)
    return [f"{name}: up to {values:,} values per image reach the cloud uncoded and are not in its bits: as published, it is "
            "no split of the network" for name, values in most.items()]


def _left_out(curves: Iterable[Curve]) -> list[str]:
    return [f"{curve.name} {point.setting} is not drawn: bpp {point.bpp}, accuracy {point.accuracy}"
            for curve in curves for point in curve.points if point not in curve.drawable()]
