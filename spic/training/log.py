"""The log of a training: a JSON line per epoch, and a last one that compares the estimator with the coder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def note(log: Path, record: Mapping[str, float]) -> None:
    """Append one line of numbers, six digits each."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        file.write(json.dumps({name: float(f"{value:.6g}") for name, value in record.items()}) + "\n")
