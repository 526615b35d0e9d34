"""What is to be trained: one job for each operating point, a curve of them for each list of lambdas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from spic.errors import SpicError
from spic.points import Key, location, supervised
from spic.training.fit import Options

STRIDE = 2  # of a feature that has rows and columns
MOST_CHANNELS, LEAST_CHANNELS = 64, 8
CHANNELS_SHARE = 8  # one coded channel for so many of the feature's


@dataclass(frozen=True)
class Job:
    """One operating point to train. Attributes of an OperatingPoint mean what they mean there.

    stride, channels, activation: None leaves them to the feature. parent: the factor whose weights it starts from, None for
    random ones.
    """

    task: str
    benchmark: str
    split_point: str
    factor: int
    options: Options
    stride: int | None = None
    channels: int | None = None
    parent: int | None = None
    network: str | None = None
    cut: str | None = None
    activation: str | None = None

    @property
    def location(self) -> str:
        return location(self.split_point)

    @property
    def key(self) -> Key:
        return self.task, self.benchmark, self.split_point, self.factor

    @property
    def name(self) -> str:
        return "/".join(map(str, self.key))

    @property
    def settings(self) -> dict[str, str]:
        """What dict.yaml says of it beyond numbers and files."""
        found = {"network": self.network, "cut": self.cut, "activation": None if self.activation == "relu" else self.activation}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Curve:
    """The trainings of one split point, one for each lambda, in order of compress factors.

    stride, channels: one for all, or one for each lambda; None: what suits the feature. steps: of a training that starts
    from random weights. refine: of one that starts from its neighbour's, at half the learning rate; None: half as many.
    distortion: None takes labels (task) for S1, S2, S3 and the uncompressed network's answers (distill) for other names.
    first: compress factor of the first lambda.
    """

    task: str
    benchmark: str
    split_point: str
    lambdas: tuple[float, ...]
    step: float = 0.5
    stride: int | tuple[int, ...] | None = None
    channels: int | tuple[int, ...] | None = None
    steps: int = Options.steps
    refine: int | None = None
    batch_size: int = Options.batch_size
    lr: float = Options.lr
    rate: str = Options.rate
    distortion: str | None = None
    seed: int = 0
    first: int = 0
    more: Mapping[str, str | None] = field(default_factory=dict)  # network, cut, activation of all its jobs

    def jobs(self) -> Iterator[Job]:
        """A job for each lambda; those that come earlier may be the parents of those that come later."""
        distortion = self.distortion or ("task" if supervised(self.split_point) else "distill")
        geometry = list(zip(self._per_lambda("stride"), self._per_lambda("channels")))
        refine = self.refine or max(1, self.steps // 2)
        for place, weight in enumerate(self.lambdas):
            start = parent(place, geometry)
            length, lr = (self.steps, self.lr) if start is None else (refine, self.lr / 2)
            options = Options(float(self.step), float(weight), self.rate, distortion, length, self.batch_size, lr,
                              seed=place + 1000 * self.seed)
            yield Job(self.task, self.benchmark, self.split_point, self.first + place, options, *geometry[place],
                      None if start is None else self.first + start, **self.more)

    def _per_lambda(self, name: str) -> list[int | None]:
        value, count = getattr(self, name), len(self.lambdas)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * count
        if len(values) != count:
            raise SpicError(f"{self.benchmark} {self.split_point}: {name} lists {len(values)} numbers for {count} lambdas")
        return values


def parent(place: int, geometry: list[tuple[int | None, int | None]]) -> int | None:
    """The first starts afresh; the third from the first, the fifth from the third; an even one from the one before it.

    One whose (stride, channels) its parent does not share starts afresh, too.
    """
    candidate = place - 1 if place % 2 else place - 2
    return candidate if candidate >= 0 and geometry[candidate] == geometry[place] else None


def by_urgency(jobs: list[Job]) -> list[Job]:
    """Every other factor first, so that every curve has its outline early; parents before their children."""
    return sorted(jobs, key=lambda job: (job.factor % 2, job.factor))


def default_stride(shape: tuple[int, ...]) -> int:
    """Of a bottleneck for a feature of one picture: tokens and vectors have no rows that could be skipped."""
    return STRIDE if len(shape) == 3 else 1


def default_channels(channels: int) -> int:
    """Coded channels for a feature of so many."""
    return min(channels, max(LEAST_CHANNELS, min(MOST_CHANNELS, channels // CHANNELS_SHARE)))
