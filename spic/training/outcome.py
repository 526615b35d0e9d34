"""What a finished training leaves: weights, frequency tables, a last line in its log, and what there is to say of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spic.bottleneck import LINEAR, Bottleneck
from spic.points import SHARED, best_tables
from spic.training.features import FeatureSet
from spic.training.fit import History, Trainee
from spic.training.jobs import Job
from spic.training.log import note
from spic.training.prediction import compare
from spic.training.tables import count_tables, file_names, rounded_to_half, write_point, write_tables

TENTH = 10
LEAST_FALL = 0.02  # a smaller one is the noise of batches
LEAST_SHARE = 0.1
NOTHING = {"bpp": 1e-5, "distortion": 1e-3}  # half a bit a picture of 224 x 224; nats
LEAST_STEPS = 50  # no shorter training can be judged, or be long enough
FALLING = {"bpp": "the rate was", "distortion": "the answers' distortion was"}


@dataclass(frozen=True)
class Outcome:
    """A trained operating point. rates: bits per input pixel, see ``prediction.compare``; empty for a point that was finished
    before. pixels: of a picture. falling: the terms of FALLING that were still falling, see ``still_falling``. tables: the kind
    of table that the rates are those of."""

    job: Job
    rates: Mapping[str, float] = field(default_factory=dict)
    pixels: int = 0
    falling: tuple[str, ...] = ()
    tables: str = SHARED

    def line(self) -> str:
        """For people: what it costs."""
        if not self.rates:
            return f"{self.job.name}  finished before"
        coded, options = self.rates["coded_bpp"], self.job.options
        made = f"lambda {options.weight:g}" if options.steps else f"step {options.step:g}"
        told = f"{self.job.name}  {made}  {coded:.5f} bpp, {coded * self.pixels / 8:.0f} bytes a picture by rANS and a {self.tables} table"
        return told + (f"  (estimator: {self.rates['predicted_bpp']:.5f} bpp)" if options.steps else "  (closed form)")


def still_falling(history: History) -> tuple[str, ...]:
    """The terms of FALLING that a longer training would make smaller.

    Three tenths of the steps are compared: the first one, that in the middle, the last. A term was still falling if it fell
    by over 2 % from the middle to the end, and that was over a tenth of its whole way down (in logarithms). The fall at the
    very end says nothing: there the learning rate is next to zero, and everything stands still. Under 50 steps all of them were.
    """
    steps = len(history.terms)
    if steps < LEAST_STEPS:
        return tuple(FALLING)
    length = steps // TENTH
    first, middle, last = (history.means(start, start + length) for start in (0, (steps - length) // 2, steps - length))
    return tuple(name for name in FALLING if _falls(*(max(part[name], NOTHING[name]) for part in (first, middle, last))))


def _falls(first: float, middle: float, last: float) -> bool:
    lately, whole = math.log(middle / last), math.log(max(first, middle) / last)
    return 1 - last / middle > LEAST_FALL and lately > LEAST_SHARE * whole


def write_outcome(trained: Bottleneck | Trainee, counting: FeatureSet, job: Job, kinds: Iterable[str], root: Path, log: Path,
                  about: Mapping[str, str] | None = None) -> Outcome:
    """Files of an operating point under ``root``, with the shared table and those of ``kinds``.

    trained: what was trained, or a bottleneck that was not; on the CPU, as ``counting``, whole pictures' float32 features,
    is. about: see ``tables.write_point``. The default of the point's tables is the kind that suits the bottleneck
    (``best_tables``). The rates are those of the kind that the training rated by: its estimator is named like one (``context``),
    or rates each number of a linear bottleneck by itself, or all symbols alike.
    """
    trainee = trained if isinstance(trained, Trainee) else None
    bottleneck, step = rounded_to_half((trainee.bottleneck if trainee else trained).eval()), job.options.step
    tables = count_tables(bottleneck.encoder, counting.features, step, dict.fromkeys([SHARED, *kinds]))
    suited = best_tables(job.form, tables)
    kind = job.options.rate if job.options.rate in tables else suited if job.form == LINEAR else SHARED
    rates = compare(trainee and trainee.estimator, bottleneck.encoder, counting.features, tables[kind], step, counting.pixels)
    shared = tables.pop(SHARED)
    note(log, rates)
    write_point(bottleneck, shared, job.key, root, {**job.settings, "default_tables": suited}, about, job.weights_key)
    write_tables(tables, root / file_names(*job.key)["table"], job.benchmark, root)
    return Outcome(job, rates, counting.pixels, still_falling(trainee.history) if trainee else (), kind)


def verdict(outcomes: Sequence[Outcome]) -> str:
    """The last line of a training: whether it was long enough, and what to do if not."""
    fresh = [outcome for outcome in outcomes if outcome.rates]
    if not fresh:
        return "every point was finished before"
    if not any(outcome.job.options.steps for outcome in fresh):
        return "nothing was trained: this is where a training of the form linear starts"
    told = [f"{words} STILL FALLING at {names}" for term, words in FALLING.items() if (names := _names_of(fresh, term))]
    if not told:
        return "no rate was falling any more: the training was long enough"
    longest = max(job.options.steps * (1 if job.parent is None else 2) for job in (outcome.job for outcome in fresh))
    return f"{'; '.join(told)}: train longer, with --steps {3 * longest} and another --output"


def _names_of(outcomes: Sequence[Outcome], term: str) -> str:
    return ", ".join(f"{o.job.split_point}/{o.job.factor}" for o in outcomes if term in o.falling)
