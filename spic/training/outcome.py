"""What a finished training leaves: weights, frequency tables, a last line in its log, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spic.points import SHARED
from spic.training.features import FeatureSet
from spic.training.fit import History, Trainee
from spic.training.jobs import Job
from spic.training.log import note
from spic.training.prediction import compare
from spic.training.tables import count_tables, file_names, rounded_to_half, write_point, write_tables

FALL = 0.02  # a rate that falls by more within a tenth of the training is still falling


@dataclass(frozen=True)
class Outcome:
    """A trained operating point. rates: bits per input pixel, see ``prediction.compare``. pixels: of a picture.
    fall: see ``fall_of``; None for a point that was finished before."""

    job: Job
    rates: Mapping[str, float]
    pixels: int
    fall: float | None = None

    @property
    def falling(self) -> bool:
        return self.fall is not None and self.fall > FALL

    def line(self) -> str:
        """For people: what it costs."""
        if not self.rates:
            return f"{self.job.name}  finished before"
        coded, predicted = self.rates["coded_bpp"], self.rates["predicted_bpp"]
        return (f"{self.job.name}  lambda {self.job.options.weight:g}  {coded:.5f} bpp, {coded * self.pixels / 8:.0f} bytes a "
                f"picture by rANS  (estimator: {predicted:.5f})")


def fall_of(history: History) -> float:
    """By what share the rate fell at last: the mean bpp of the last tenth of the steps against that of the tenth before."""
    steps = len(history.terms)
    tenth = max(1, steps // 10)
    if steps < 2 * tenth:
        return 1.0
    before, last = (history.means(steps - n * tenth, steps - (n - 1) * tenth)["bpp"] for n in (2, 1))
    return 1 - last / before if before > 0 else 0.0


def write_outcome(trainee: Trainee, counting: FeatureSet, job: Job, kinds: Iterable[str], root: Path, log: Path,
                  about: Mapping[str, str] | None = None) -> Outcome:
    """Files of an operating point under ``root``, with the shared table and those of ``kinds``.

    trainee: on the CPU, as ``counting``, whole pictures' float32 features, is. about: see ``tables.write_point``.
    """
    bottleneck, step = rounded_to_half(trainee.bottleneck.eval()), trainee.options.step
    tables = count_tables(bottleneck.encoder, counting.features, step, dict.fromkeys([SHARED, *kinds]))
    shared = tables.pop(SHARED)
    rates = compare(trainee.estimator, bottleneck.encoder, counting.features, shared, step, counting.pixels)
    note(log, rates)
    write_point(bottleneck, shared, job.key, root, job.settings, about)
    write_tables(tables, root / file_names(*job.key)["table"], job.benchmark, root)
    return Outcome(job, rates, counting.pixels, fall_of(trainee.history))


def verdict(outcomes: Sequence[Outcome]) -> str:
    """The last line of a training: whether it was long enough, and what to do if not."""
    fresh = [outcome for outcome in outcomes if outcome.fall is not None]
    falling = [outcome for outcome in fresh if outcome.falling]
    if not fresh:
        return "every point was finished before"
    if not falling:
        return "no rate was falling any more: the training was long enough"
    names = ", ".join(f"{outcome.job.split_point}/{outcome.job.factor}" for outcome in falling)
    worst = max(outcome.fall for outcome in falling)
    steps = max(outcome.job.options.steps for outcome in falling)
    return (f"the rate was STILL FALLING at {names} (by up to {100 * worst:.0f} % over the last tenth): these points cost more "
            f"bytes than they need to; train longer, with --steps {3 * steps} and a new --output")
