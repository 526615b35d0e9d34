"""What is printed and what is written: one record per operating point (JSON), one row per image (CSV)."""

from __future__ import annotations

import csv
import io
import json
import platform
from pathlib import Path
from typing import Sequence

import torch
import torchvision

from spic import __version__
from spic.files import sha256, write_whole
from spic.evaluate import TOTALS, Road
from spic.points import SHARED, OperatingPoint

_STAGES = (("front", ("front",)), ("encoder and coder", ("encoder", "encode")),
           ("decoder and coder", ("decode", "decoder")), ("back", ("back",)))
_IDENTITY = ("task", "benchmark", "split_point", "compress_factor", "tables")
_SCORES = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "miou": "mIoU"}
_COLUMNS = {"split_point": ("split", "{}"), "compress_factor": ("factor", "{}"), "top1": ("top-1 %", "{:.2f}"),
            "top5": ("top-5 %", "{:.2f}"), "miou": ("mIoU", "{:.4f}"), "bpp": ("bpp", "{:.5f}"),
            "bytes_per_image": ("bytes per image", "{:.1f}"), "bpp_bound": ("bound, bpp", "{:.5f}"),
            "bpp_wire": ("wire, bpp", "{:.5f}"), "escapes": ("escapes", "{}")}


def record(road: Road, inputs: dict) -> dict:
    """The JSON record of one operating point. Rates are bits per input pixel; scores as in the published scripts.

    ``inputs``: what else the numbers depend on (data folder, limit, ...).
    """
    point = road.point
    images, payload_bytes, wire_bytes, escapes, uncoded = (int(road.total(name)) for name in TOTALS[:-1])
    pixels = images * road.pixels
    seconds = {**road.edge.watch.seconds, **road.cloud.watch.seconds}
    return {
        "task": point.task, "benchmark": point.benchmark, "split_point": point.split_point,
        "compress_factor": point.compress_factor, "coder": road.edge.coder.name, "tables": point.tables,
        "device": road.device_name, "images": images,
        **road.metric.result(),
        **{f"baseline_{name}": value for name, value in road.baseline.result().items()},
        "bpp": payload_bytes * 8 / pixels, "bpp_wire": wire_bytes * 8 / pixels,
        "bpp_bound": road.total("bound_bits") / pixels, "bytes_per_image": payload_bytes / images,
        "escapes": escapes, "uncoded_values_per_image": uncoded // images,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "versions": {"spic": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
                     "python": platform.python_version()},
        "inputs": _all_inputs(point, inputs),
    }


def _all_inputs(point: OperatingPoint, inputs: dict) -> dict:
    return {**inputs, "weights": sha256(point.weights), "table": sha256(point.table)}


def finished(path: Path | None, point: OperatingPoint, coder: str, inputs: dict) -> dict | None:
    """The record in ``path`` if it is of this very point, made by the same coder from the same inputs."""
    try:
        result = json.loads(path.read_text())
        same = result["inputs"] == _all_inputs(point, inputs) and result["coder"] == coder
        return result if same and all(result[key] == getattr(point, key) for key in _IDENTITY) else None
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return None


def table(result: dict) -> str:
    """The short table a person reads at the end of a run."""
    lines = [(label, f"{_score(key, result[key])}   uncompressed {_score(key, result[f'baseline_{key}'])}")
             for key, label in _SCORES.items() if key in result]
    lines += [
        ("rate", f"{result['bpp']:.5f} bpp   {result['bytes_per_image']:.1f} bytes per image"),
        ("entropy bound", f"{result['bpp_bound']:.5f} bpp   (cross-entropy of the frequency table)"),
        ("on the wire", f"{result['bpp_wire']:.5f} bpp   (header, lengths and checks included)"),
        ("escapes", f"{result['escapes']}"),
    ]
    if result["uncoded_values_per_image"]:
        lines.append(("uncoded", f"{result['uncoded_values_per_image']} values per image bypass the coder"))
    lines += [(f"s, {label}", f"{sum(result['seconds'].get(part, 0.0) for part in parts):.2f}")
              for label, parts in _STAGES]
    title = (f"{result['task']} on {result['benchmark']}, {result['split_point']} factor {result['compress_factor']}, "
             f"{_circumstances(result)}")
    return "\n".join([title, *(f"  {label:<20} {text}" for label, text in lines)])


def overview(results: list[dict]) -> str:
    """Points of one run, a row each; the seconds are in the records."""
    first = results[0]
    title = f"{first['task']} on {first['benchmark']}, {_circumstances(first)}"
    alone = ", ".join(f"{label} {_score(key, first[f'baseline_{key}'])}" for key, label in _SCORES.items() if key in first)
    rows = [{label: form.format(result[key]) for key, (label, form) in _COLUMNS.items() if key in result}
            for result in results]
    return f"{title}\nuncompressed: {alone}\n\n{aligned(rows)}"


def aligned(rows: Sequence[dict]) -> str:
    """Rows of the same keys in columns, for a terminal or a text file."""
    if not rows:
        return "(nothing to show)"
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _circumstances(result: dict) -> str:
    tables = "" if result["tables"] == SHARED else f"a table per {result['tables']}, "
    return f"{result['coder']}, {tables}{result['images']} images, {result['device']}"


def _score(key: str, value: float) -> str:
    return f"{value:.4f}" if key == "miou" else f"{value:.2f} %"


def write_json(path: Path, result: dict) -> None:
    """Write one record; the file appears complete or not at all."""
    write_whole(path, (json.dumps(result, indent=2) + "\n").encode())


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write one row per image."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
