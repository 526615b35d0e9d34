"""What a person reads at the end of a run, and the files of one: records (JSON) and one row per image (CSV)."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torchvision

from spic import __version__
from spic.errors import SpicError
from spic.evaluate import Road
from spic.files import sha256, write_whole
from spic.points import SHARED, OperatingPoint
from spic.record import Record, read_results
from spic.tasks import AGREEMENT, DIVERGENCE

_STAGES = (("front", ("front",)), ("encoder and coder", ("encoder", "encode")),
           ("decoder and coder", ("decode", "decoder")), ("back", ("back",)))
_IDENTITY = ("task", "benchmark", "split_point", "compress_factor", "tables")


def record(road: Road, inputs: Mapping) -> Record:
    """The record of one operating point; ``inputs``: what else the numbers depend on (data folder, limit, ...)."""
    point, images = road.point, road.count("images")
    pixels = images * road.pixels
    seconds = {**road.edge.watch.seconds, **road.cloud.watch.seconds}
    return Record(
        task=point.task, benchmark=point.benchmark, images=images, scores=road.metric.result(),
        baseline=road.baseline.result(), bpp=road.count("payload_bytes") * 8 / pixels,
        bpp_wire=road.count("wire_bytes") * 8 / pixels, bytes_per_image=road.count("payload_bytes") / images,
        device=road.device_name, bpp_table=road.table_bits / pixels, escapes=road.escapes,
        uncoded_values_per_image=road.count("uncoded_values") // images, split_point=point.split_point,
        compress_factor=point.compress_factor, coder=road.edge.coder.name, tables=point.tables, amp=bool(inputs.get("amp")),
        seconds={name: round(value, 4) for name, value in seconds.items()}, versions=versions(),
        inputs=all_inputs(point, inputs),
    )


def versions() -> dict[str, str]:
    """Of what computed a result."""
    return {"spic": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
            "python": platform.python_version()}


def all_inputs(point: OperatingPoint, inputs: Mapping) -> dict:
    """What a record of the point depends on."""
    return {**inputs, "weights": sha256(point.weights), "table": sha256(point.table)}


def finished(path: Path | None, rows: Path | None, point: OperatingPoint, coder: str, inputs: Mapping) -> Record | None:
    """The record in ``path`` if it is of this very point, made by the same coder from the same inputs.

    rows: the file with one row per image that belongs to it; None where none was asked for.
    """
    if path is None or not path.exists():
        return None
    try:
        (result,) = read_results([path]).records
    except (SpicError, ValueError):
        return None
    same = result.inputs == all_inputs(point, inputs) and result.coder == coder
    same = same and all(getattr(result, key) == getattr(point, key) for key in _IDENTITY)
    if same and rows is not None:
        same = rows.exists() and sha256(rows) == result.more.get("per_image")
    return result if same else None


def table(result: Record) -> str:
    """The short table of one point."""
    lines = [(score.label if score.key in result.scores else "", f"{score.text(result.scores[score.key])}   "
              f"uncompressed {score.text(result.baseline[score.key])}")
             for score in result.of.scores if score.key in result.scores]
    lines += [("same answers", f"{AGREEMENT.text(result.scores[AGREEMENT.key])}   as the uncompressed network")]
    lines += [("divergence", f"{DIVERGENCE.text(result.scores[DIVERGENCE.key])}   from it (Kullback-Leibler)")]
    lines += [
        ("rate", f"{result.bpp:.5f} bpp   {result.bytes_per_image:.1f} bytes per image"),
        ("cross-entropy", f"{result.bpp_table:.5f} bpp   (of the frequency table, on these symbols)"),
        ("on the wire", f"{result.bpp_wire:.5f} bpp   (header, lengths and checks included)"),
        ("escapes", f"{result.escapes}"),
    ]
    if result.uncoded_values_per_image:
        lines.append(("uncoded", f"{result.uncoded_values_per_image} values per image bypass the coder"))
    lines += [(f"s, {label}", f"{sum(result.seconds.get(part, 0.0) for part in parts):.2f}")
              for label, parts in _STAGES]
    title = f"{result.task} on {result.benchmark}, {result.split_point} factor {result.compress_factor}"
    return "\n".join([title, f"  {_circumstances(result)}", *(f"  {label:<20} {text}" for label, text in lines)])


def overview(results: Sequence[Record]) -> str:
    """Points of one run, a row each; the seconds are in the records."""
    first = results[0]
    title = f"{first.task} on {first.benchmark}, {_circumstances(*results)}"
    shown = [score for score in first.of.scores if score.key in first.scores] or [AGREEMENT, DIVERGENCE]
    alone = ", ".join(f"{score.label} {score.text(first.baseline[score.key])}" for score in shown if score is not DIVERGENCE)
    return f"{title}\nuncompressed: {alone}\n\n{aligned([_row(result, shown) for result in results])}"


_SHORT = {"top1": "top-1 %", "top5": "top-5 %", "miou": "mIoU", "agreement": "agree %", "divergence": "KL nats"}


def _row(result: Record, shown) -> dict[str, str]:
    scores = {_SHORT.get(score.key, score.key): f"{result.scores[score.key]:.{score.digits}f}" for score in shown}
    return {"split": result.split_point, "factor": result.compress_factor, **scores, "bpp": f"{result.bpp:.5f}",
            "bytes": f"{result.bytes_per_image:.1f}", "table bpp": f"{result.bpp_table:.5f}",
            "wire bpp": f"{result.bpp_wire:.5f}", "escapes": result.escapes}


def aligned(rows: Sequence[Mapping]) -> str:
    """Rows of the same keys in columns, for a terminal or a text file."""
    if not rows:
        return "(nothing to show)"
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _circumstances(result: Record, *others: Record) -> str:
    """What the results have in common."""
    kinds = list(dict.fromkeys(each.tables for each in (result, *others)))
    tables = "" if kinds == [SHARED] else f"{' and '.join(kinds)} tables, "
    tables += f"rdo {result.inputs['rdo']:g}, " if result.inputs.get("rdo") else ""
    return f"{result.coder}, {tables}{result.images} images, {result.device}"


def csv_of(rows: Sequence[Mapping]) -> bytes:
    """One line per row, behind a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_csv(path: Path, rows: Sequence[Mapping]) -> None:
    """Write one row per image, whole."""
    write_whole(path, csv_of(rows))
