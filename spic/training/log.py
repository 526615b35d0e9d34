"""The log of a training: JSON lines of numbers at even distances, a last one that compares the estimator with the coder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from spic.files import make_folder, write_whole


def note(log: Path, record: Mapping[str, float]) -> None:
    """Append one line of numbers, six digits each."""
    make_folder(log.parent)
    with open(log, "a") as file:
        file.write(json.dumps({name: float(f"{value:.6g}") for name, value in record.items()}) + "\n")


def go_back(log: Path, step: int) -> None:
    """Keep the lines up to a step: what a resumed run does again is not told twice."""
    if log.exists():
        kept = [line for line in log.read_text().splitlines() if 0 < _step_of(line) <= step]
        write_whole(log, "".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> float:
    """The step a line stands for; 0 for a last line, which is written anew, and for one that was cut off."""
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError, TypeError):
        return 0
