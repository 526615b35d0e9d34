"""The audit: what the published tables and weights say by themselves, and the figure's marker for each point.

No data set is needed. The Huffman rate follows from a table: symbols per image, times the mean code length, plus the
filling of the last byte (half a byte less half a bit on average). The rANS rate is the entropy plus the overhead
measured with the coder on images drawn from the table.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spic.benchmarks.imagenet import ARCHIVE_URL
from spic.coding import FrequencyTable, make_coder
from spic.coding.huffman import huffman_code
from spic.errors import SpicError
from spic.points import DICT_FILE, OperatingPoint
from spic.published.checkpoints import Checkpoint, load_checkpoint, read_checkpoint
from spic.published.importing import altered_files, imported_points
from spic.published.layout import artefacts, geometry, published_points
from spic.published.source import read_files
from spic.published.unpickle import read_table

CURVES_FILE = Path(__file__).parents[1] / "data" / "paper_curves.json"
INPUT_SIZE = {"classification": 224, "segmentation": 513}
_FEATURE_SIZE = {("classification", "S1"): 7, ("classification", "S2"): 7, ("classification", "S3"): 14,
                 ("segmentation", "S1"): 65, ("segmentation", "S2"): 65, ("segmentation", "S3"): 65}
_FILLING_BITS = 3.5  # of the last byte, if every fill from 0 to 7 bits is equally likely
_DRAWN_IMAGES = 16
_SEED = 1


@dataclass(frozen=True)
class Rates:
    """Of one table and one image shape, in bits per symbol and bits per input pixel; ``overhead``: rANS bytes per image
    above the entropy; ``images``: how many images the table was counted on; ``gaps``: symbols without a count below the
    table's largest one."""

    shape: tuple[int, int, int]
    images: float
    gaps: int
    entropy_bits: float
    huffman_bits: float
    entropy_bpp: float
    huffman_bpp: float
    rans_bpp: float
    overhead: float


@dataclass(frozen=True)
class PointAudit:
    """One operating point: its rates, its checkpoint (None without the weights file), and (bpp, accuracy) of its marker
    in the published figure (None if the curve has too few markers)."""

    point: OperatingPoint
    rates: Rates
    checkpoint: Checkpoint | None
    marker: tuple[float, float] | None

    @property
    def difference(self) -> float | None:
        """Figure's bpp over the table's Huffman bpp, minus 1."""
        return self.marker and self.marker[0] / self.rates.huffman_bpp - 1


def audit_imported(dict_file: Path = DICT_FILE) -> list[PointAudit]:
    """The audit of the points that were imported; files that are not what was published are named and left out."""
    points = imported_points(dict_file)
    for path in altered_files(dict_file):
        print(f"note: {path} is not the published file, so its point is left out; import again with --source",
              file=sys.stderr)
    if not points:
        raise SpicError("no published point is imported yet; audit a copy without importing it by: spic import --audit "
                        f"--source DIR_OR_URL, or import it by: spic import --source {ARCHIVE_URL}")
    return _audit((point, FrequencyTable.load(point.table), load_checkpoint(point.weights)) for point in points)


def audit_source(source: str, dict_file: Path = DICT_FILE) -> list[PointAudit]:
    """The audit of a copy of the published repository; without its weights file a point is audited by its table."""
    known = {artefact.name: artefact for artefact in artefacts(published_points(dict_file))}
    parsed: dict[tuple[OperatingPoint, str], object] = {}
    for name, data in tqdm(read_files(source, {name: a.size for name, a in known.items()}), desc="read", unit="file"):
        artefact = known[name]
        parsed[artefact.point, artefact.kind] = _PARSE[artefact.kind](artefact.check(data), artefact)
    tables = {point: table for (point, kind), table in parsed.items() if kind == "table"}
    if not tables:
        raise SpicError(f"{source}: holds none of the published tables")
    order = [point for point in published_points(dict_file) if point in tables]
    return _audit((point, tables[point], parsed.get((point, "weights"))) for point in order)


_PARSE = {
    "weights": lambda data, artefact: read_checkpoint(data, artefact.point, artefact.name),
    "table": lambda data, artefact: read_table(data, artefact.point.step),
}


def _audit(rows: Iterator) -> list[PointAudit]:
    audits = [PointAudit(point, rates(table, symbol_shape(point), INPUT_SIZE[point.task]), checkpoint, None)
              for point, table, checkpoint in tqdm(rows, desc="audit", unit="point")]
    return [replace(audit, marker=marker) for audit, marker in zip(audits, _markers(audits))]


def symbol_shape(point: OperatingPoint) -> tuple[int, int, int]:
    """[C, h, w] of a published point's symbols."""
    kernel, padding = geometry(point).encoder
    side = (_FEATURE_SIZE[point.task, point.location] + 2 * padding - kernel) // point.stride + 1
    return point.channels, side, side


def rates(table: FrequencyTable, shape: tuple[int, int, int], input_size: int) -> Rates:
    """The rates of images of ``shape`` symbols, distributed as the table says, over an input of size x size pixels."""
    symbols, pixels = math.prod(shape), input_size**2
    code = huffman_code(table.counts)
    huffman_bits = sum(count * code[symbol][0] for symbol, count in table.counts.items()) / table.total
    overhead = rans_overhead(table, shape)
    return Rates(shape, table.total / symbols, table.width - len(table.counts), table.entropy, huffman_bits,
                 table.entropy * symbols / pixels, (huffman_bits * symbols + _FILLING_BITS) / pixels,
                 (table.entropy * symbols + 8 * overhead) / pixels, overhead)


def rans_overhead(table: FrequencyTable, shape: tuple[int, int, int]) -> float:
    """Bytes per image that the rANS coder needs above the table's own code length, on images drawn from the table."""
    values, counts = zip(*table.counts.items())
    drawn = np.random.default_rng(_SEED).choice(values, (_DRAWN_IMAGES, *shape), p=np.array(counts) / sum(counts))
    coded = sum(map(len, make_coder("rans", table).encode(drawn.astype(np.int32))))
    return (coded - table.cross_entropy(drawn) / 8) / _DRAWN_IMAGES


def published_curves() -> dict:
    """The markers read off the published figures: task -> curve -> [(bpp, accuracy)], ascending in bpp."""
    entries = json.loads(CURVES_FILE.read_text())
    return {task: entries[task]["curves"] for task in INPUT_SIZE}


def curves_of(audits: list[PointAudit]) -> dict[tuple[str, str], list[PointAudit]]:
    """(task, split point) -> its audited points, in file order."""
    curves: dict[tuple[str, str], list[PointAudit]] = {}
    for audit in audits:
        curves.setdefault((audit.point.task, audit.point.split_point), []).append(audit)
    return curves


def _markers(audits: list[PointAudit]) -> list[tuple[float, float] | None]:
    """For each point its marker."""
    published, found = published_curves(), {}
    for (task, split_point), members in curves_of(audits).items():
        members = sorted(members, key=lambda audit: audit.rates.huffman_bpp)
        markers = [tuple(marker) for marker in published[task][split_point]]
        pairs = match([a.rates.huffman_bpp for a in members], markers)
        found |= {a.point: marker for a, marker in zip(members, pairs)}
    return [found[a.point] for a in audits]


def match(bpps: list[float], markers: list[tuple[float, float]]) -> list[tuple[float, float] | None]:
    """Pair points with markers, both ascending in bpp, keeping the order; where their numbers differ, those are left
    out that make the summed |log ratio| of the pairs smallest."""
    few = min(len(bpps), len(markers))

    def distance(choice) -> float:
        return sum(abs(math.log(bpps[i] / markers[j][0])) for i, j in zip(*choice))

    choices = ((i, j) for i in combinations(range(len(bpps)), few) for j in combinations(range(len(markers)), few))
    pairs = dict(zip(*min(choices, key=distance)))
    return [markers[pairs[i]] if i in pairs else None for i in range(len(bpps))]
