"""What is to be trained: one job for each operating point, a curve of them for each list of lambdas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from spic.bottleneck import CLOSED, FORMS, LINEAR, SEPARABLE
from spic.errors import SpicError
from spic.points import Key, location, supervised
from spic.training.fit import Options

STRIDE = 2  # of a feature that has rows and columns
MOST_CHANNELS, LEAST_CHANNELS = 64, 8
MOST_DIRECTIONS = 128
CHANNELS_SHARE = 8  # one coded channel for so many of the feature's


@dataclass(frozen=True)
class Job:
    """One operating point to train. Attributes of an OperatingPoint mean what they mean there.

    stride, channels, activation: None leaves them to the feature. parent: the factor whose weights it starts from; None for
    random ones, or for a form that has one the closed form. shares: the factor whose file of weights it uses, as closed forms
    of several steps do that are the same but for their tables; None: its own.
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
    form: str = SEPARABLE
    shares: int | None = None

    @property
    def weights_key(self) -> Key:
        """The point under whose name the weights lie."""
        return *self.key[:3], self.factor if self.shares is None else self.shares

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
        found = {"network": self.network, "cut": self.cut, "activation": None if self.activation == "relu" else self.activation,
                 "form": None if self.form == SEPARABLE else self.form}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Curve:
    """The trainings of one split point, one for each lambda, in order of compress factors; with ``steps`` 0 the closed form,
    one for each step of the quantiser.

    step, stride, channels: one for all, or one for each point; None: what suits the feature. steps: of a training that starts
    afresh. refine: of one that starts from its neighbour's, at half the learning rate; None: half as many.
    distortion: None takes labels (task) for S1, S2, S3 and the uncompressed network's answers (distill) for other names.
    first: compress factor of the first lambda.
    """

    task: str
    benchmark: str
    split_point: str
    lambdas: tuple[float, ...] = ()
    step: float | tuple[float, ...] = 0.5
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
    form: str = SEPARABLE
    more: Mapping[str, str | None] = field(default_factory=dict)  # network, cut, activation of all its jobs

    def jobs(self) -> Iterator[Job]:
        """A job for each point; those that come earlier may be the parents of those that come later."""
        self._check()
        distortion = self.distortion or ("task" if supervised(self.split_point) else "distill")
        geometry = list(zip(self._per_point("stride"), self._per_point("channels")))
        refine = self.refine or max(1, self.steps // 2)
        for place, (weight, step) in enumerate(zip(self._weights, self._per_point("step"))):
            start = parent(place, geometry) if self.steps else None
            length, lr = (self.steps, self.lr) if start is None else (refine, self.lr / 2)
            options = Options(float(step), float(weight), self.rate, distortion, length, self.batch_size, lr,
                              seed=place + 1000 * self.seed)
            yield Job(self.task, self.benchmark, self.split_point, self.first + place, options, *geometry[place],
                      None if start is None else self.first + start, form=self.form,
                      shares=None if self.steps else self.first + geometry.index(geometry[place]), **self.more)

    def _check(self) -> None:
        where = f"{self.benchmark} {self.split_point}"
        if self.form not in FORMS:
            raise SpicError(f"{where}: unknown form {self.form!r}, choose from {', '.join(FORMS)}")
        if not self.steps and self.form not in CLOSED:
            raise SpicError(f"{where}: only the forms {' and '.join(CLOSED)} have a closed solution; a {self.form} bottleneck "
                            "needs steps")
        if bool(self.lambdas) == (not self.steps):
            raise SpicError(f"{where}: lambdas go with a training; without one (steps 0) the rates are those of several steps "
                            "of the quantiser")

    @property
    def _weights(self) -> tuple[float, ...]:
        """Lambda of each point; where nothing is trained, 0 for each step."""
        return self.lambdas or (0.0,) * len(self.step if isinstance(self.step, (list, tuple)) else [self.step])

    def _per_point(self, name: str) -> list:
        value, count = getattr(self, name), len(self._weights)
        values = list(value) if isinstance(value, (list, tuple)) else [value] * count
        if len(values) != count:
            raise SpicError(f"{self.benchmark} {self.split_point}: {name} lists {len(values)} numbers for {count} points")
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


def default_channels(channels: int, form: str = SEPARABLE) -> int:
    """Coded channels for a feature of so many, or of so many directions: those that carry little cost next to nothing."""
    if form in CLOSED:
        return min(channels, MOST_DIRECTIONS) if form == LINEAR else channels
    return min(channels, max(LEAST_CHANNELS, min(MOST_CHANNELS, channels // CHANNELS_SHARE)))
