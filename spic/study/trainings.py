"""What is known of each training: its records, how well its bits were predicted, how long it took, how large its bottleneck is.

A folder of runs knows it first. The report keeps it beside the figures, so that who trains one more curve has it judged beside
those of the page without training them, too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from spic.errors import SpicError
from spic.networks.weights import parameters_of, read_state_dict
from spic.record import Record, Results, read_results
from spic.study import plan
from spic.study.evaluation import curves
from spic.training.tables import file_names

Key = tuple[str, str, int]
"""Variant, curve such as ``S1 l1``, seed: what is measured, and replaced, as a whole."""


def key_of(record: Record) -> Key:
    return record.more["variant"], record.curve, record.seed


def of_runs(root: Path, logs: Path, task: str) -> list[Record]:
    """A record of each training and variant that was measured below ``root``.

    In ``more``: variant; from the log, where there is one, predicted_bpp and coded_bpp of its last line and the seconds of all; from
    the file of weights, parameters.
    """
    found, facts = [], _facts(root, logs, task)
    for file in sorted(curves(root, task, "").glob("*/*.json")):
        for record in read_results([file]).records:
            more = {"variant": file.parent.name, **facts.get((record.curve, record.seed, record.compress_factor), {})}
            found.append(dataclasses.replace(record, more=more, inputs={}, seconds={}, versions={}, costs=None))
    return found


def _facts(root: Path, logs: Path, task: str) -> dict[tuple[str, int, int], dict[str, float]]:
    facts = {}
    for name, what in plan.read_notes(root).items():
        of, _, split_point, _ = key = name.split("/")
        log, weights = logs / f"{name}.jsonl", root / file_names(*key)["weights"]
        if of == task:
            facts[f"{split_point} {what['estimator']}", what["seed"], what["place"]] = {
                **(_summed(log) if log.exists() else {}),
                **({"parameters": parameters_of(read_state_dict(weights))} if weights.exists() else {})}
    return facts


def _summed(log: Path) -> dict[str, float]:
    try:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        last = {key: lines[-1][key] for key in ("predicted_bpp", "coded_bpp") if key in lines[-1]}
        return {**last, "seconds": sum(line.get("seconds", 0.0) for line in lines)}
    except (ValueError, IndexError, AttributeError, TypeError):
        raise SpicError(f"{log}: not a log of a training; delete it and train that point again") from None


def kept(file: Path) -> list[Record]:
    """What the report kept, nothing where it has not yet."""
    found = read_results([file]).records if file.exists() else ()
    if not all(map(_complete, found)):
        raise SpicError(f"{file}: not what spic study report keeps of trainings; restore it, or delete it")
    return list(found)


def _complete(record: Record) -> bool:
    """As ``of_runs`` makes it: a curve of two words, and numbers beside the variant."""
    facts = dict(record.more)
    return (isinstance(facts.pop("variant", None), str) and None not in (record.curve, record.seed, record.compress_factor)
            and len(record.curve.split()) == 2 and record.curve.split()[0] == record.split_point
            and all(type(value) in (int, float) for value in facts.values()))


def merged(earlier: Iterable[Record], now: Iterable[Record]) -> list[Record]:
    """Curves that were measured now in place of those kept."""
    now = list(now)
    again = {key_of(record) for record in now}
    both = [record for record in earlier if key_of(record) not in again] + now
    return sorted(both, key=lambda record: (*key_of(record), record.compress_factor))


def keep(file: Path, records: Iterable[Record]) -> None:
    Results(tuple(records)).write(file)
