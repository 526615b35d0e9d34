"""Bring published files into Weights/ and Freq_tab/: each one checked, converted, written atomically, recorded.

What is in place is decided by the manifest alone: a file there must say what the published one says. The list of
checksums, which other commands write too, follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from spic.benchmarks.imagenet import ARCHIVE_URL, HOW_TO_GET
from spic.coding import FrequencyTable
from spic.errors import SpicError
from spic.files import record_checksums, verify_file, write_whole
from spic.points import DICT_FILE, OperatingPoint, check_root
from spic.published.checkpoints import load_checkpoint, read_checkpoint
from spic.published.layout import Artefact, artefacts, published_points
from spic.published.source import read_files
from spic.published.unpickle import read_table, table_content


@dataclass
class Summary:
    """What an import did. ``missing`` and ``refused`` are published file names; refused ones with the reason."""

    points: int
    complete: int
    present: int
    written: int
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.missing and not self.refused

    def __str__(self) -> str:
        changed = f"{self.written} files written" if self.written else "nothing changed"
        return (f"{self.complete} of {self.points} points imported, {len(self.missing)} files missing, "
                f"{len(self.refused)} refused; {changed}, {self.present} were already in place")


def import_published(source: str, dict_file: Path = DICT_FILE) -> Summary:
    """Import what ``source`` holds and what is not yet in place; can be interrupted and repeated at any time."""
    root, points = dict_file.parent, published_points(dict_file)
    check_root(root)
    known = artefacts(points)
    wanted = {artefact.name: artefact for artefact in known if not in_place(artefact)}
    summary = Summary(len(points), 0, len(known) - len(wanted), 0)
    record([artefact for artefact in known if artefact.name not in wanted], root)
    if wanted:
        _import_files(source, wanted, root, summary)
    if wanted and len(summary.missing) == len(wanted) and _holds_none(source, known):
        raise SpicError(f"{source}: holds none of the published files (Classification/weights/..., "
                        f"Segmentation/freq_tab/...); they are at {ARCHIVE_URL}")
    summary.complete = sum(all(map(in_place, artefacts([point]))) for point in points)
    return summary


def _import_files(source: str, wanted: dict[str, Artefact], root: Path, summary: Summary) -> None:
    sizes = {name: artefact.size for name, artefact in wanted.items()}
    written = set()
    with tqdm(total=len(wanted), desc="import", unit="file") as progress:
        for name, data in read_files(source, sizes):
            try:
                content = convert(wanted[name], data)
            except SpicError as error:
                summary.refused[name] = str(error)
                continue
            _place(wanted[name], content, root)
            written.add(name)
            progress.update()
    summary.written = len(written)
    summary.refused = {name: reason for name, reason in summary.refused.items() if name not in written}
    summary.missing = [name for name in wanted if name not in written and name not in summary.refused]


def _holds_none(source: str, known: Iterable[Artefact]) -> bool:
    """Whether it is no copy at all, rather than one whose files are in place already."""
    return next(iter(read_files(source, {artefact.name: artefact.size for artefact in known})), None) is None


def convert(artefact: Artefact, data: bytes) -> bytes:
    """The file of this project that a published file becomes; another file than the published one is a SpicError."""
    return _CONVERT[artefact.kind](artefact.check(data), artefact)


def _weights(data: bytes, artefact: Artefact) -> bytes:
    return read_checkpoint(data, artefact.point, artefact.name).to_bytes()


def _table(data: bytes, artefact: Artefact) -> bytes:
    return (json.dumps(read_table(data, artefact.point.step).to_json()) + "\n").encode()


_CONVERT = {"weights": _weights, "table": _table}


def _place(artefact: Artefact, content: bytes, root: Path) -> None:
    try:
        write_whole(artefact.target, content)
        record([artefact], root)
    except SpicError as error:
        raise SpicError(f"{error}; when that is solved, run the command again: it goes on where it stopped") from None


def record(known: Iterable[Artefact], root: Path) -> None:
    """Put files that are in place into the benchmarks' lists of checksums, where they are not in them already."""
    unlisted: dict[str, list[Path]] = {}
    for artefact in known:
        if not _listed(artefact, root):
            unlisted.setdefault(artefact.point.benchmark, []).append(artefact.target)
    for benchmark, files in unlisted.items():
        record_checksums(benchmark, files, root)


def _listed(artefact: Artefact, root: Path) -> bool:
    try:
        return bool(verify_file(artefact.target, artefact.point.benchmark, HOW_TO_GET, root))
    except SpicError:
        return False


def in_place(artefact: Artefact) -> bool:
    """Whether the file there says what the published one says."""
    try:
        return _CONTENT[artefact.kind](artefact.target) == artefact.content
    except SpicError:
        return False


_CONTENT = {"weights": lambda path: load_checkpoint(path).content,
            "table": lambda path: table_content(FrequencyTable.load(path))}


def imported_points(dict_file: Path = DICT_FILE) -> list[OperatingPoint]:
    """The published points whose weights and table are both in place."""
    return [point for point in published_points(dict_file) if all(map(in_place, artefacts([point])))]


def altered_files(dict_file: Path = DICT_FILE) -> list[Path]:
    """Files that stand where a published one should, and say something else."""
    known = artefacts(published_points(dict_file))
    return [artefact.target for artefact in known if artefact.target.exists() and not in_place(artefact)]
