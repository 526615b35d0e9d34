"""Bring published files into Weights/ and Freq_tab/: each one checked, converted, written atomically, recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from spic.errors import SpicError
from spic.files import record_checksums, verify_file, write_whole
from spic.points import DICT_FILE, OperatingPoint
from spic.published.checkpoints import read_checkpoint
from spic.published.layout import ARCHIVE_URL, Artefact, artefacts, published_points
from spic.published.source import read_files
from spic.published.unpickle import read_table

HOW_TO_GET = f"import the published artefacts with: spic import --source {ARCHIVE_URL}"


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
    wanted = {artefact.name: artefact for artefact in artefacts(points) if not in_place(artefact, root)}
    summary = Summary(len(points), 0, 2 * len(points) - len(wanted), 0)
    if wanted:
        try:
            _import_files(source, wanted, root, summary)
        except OSError as error:  # of writing; errors of reading the source are SpicErrors already
            raise SpicError(f"{error.filename or root}: cannot be written ({error.strerror}); run the command again "
                            "when that is solved, it goes on where it stopped") from None
    summary.complete = sum(all(in_place(artefact, root) for artefact in artefacts([point])) for point in points)
    return summary


def _import_files(source: str, wanted: dict[str, Artefact], root: Path, summary: Summary) -> None:
    sizes = {name: artefact.size for name, artefact in wanted.items()}
    written = set()
    with tqdm(total=len(wanted), desc="import", unit="file") as progress:
        for name, data in read_files(source, sizes):
            try:
                import_file(wanted[name], data, root)
                written.add(name)
                progress.update()
            except SpicError as error:
                summary.refused[name] = str(error)
    summary.written = len(written)
    summary.refused = {name: reason for name, reason in summary.refused.items() if name not in written}
    summary.missing = [name for name in wanted if name not in written and name not in summary.refused]
    if len(summary.missing) == len(wanted):
        raise SpicError(f"{source}: holds none of the published files (Classification/weights/..., "
                        f"Segmentation/freq_tab/...); they are at {ARCHIVE_URL}")


def import_file(artefact: Artefact, data: bytes, root: Path) -> None:
    """Check, convert and write one published file, then record the checksum of what was written."""
    content = _CONVERT[artefact.kind](artefact.check(data), artefact)
    write_whole(artefact.target, content)
    record_checksums(artefact.point.benchmark, [artefact.target], root)


def _weights(data: bytes, artefact: Artefact) -> bytes:
    return read_checkpoint(data, artefact.point, artefact.name).to_bytes()


def _table(data: bytes, artefact: Artefact) -> bytes:
    return (json.dumps(read_table(data, artefact.point.step).to_json()) + "\n").encode()


_CONVERT = {"weights": _weights, "table": _table}


def in_place(artefact: Artefact, root: Path) -> bool:
    """Whether the file was imported before and is unaltered."""
    try:
        return bool(verify_file(artefact.target, artefact.point.benchmark, HOW_TO_GET, root))
    except SpicError:
        return False


def imported_points(dict_file: Path = DICT_FILE) -> list[OperatingPoint]:
    """The published points whose weights and table are both in place."""
    points = published_points(dict_file)
    return [point for point in points if all(in_place(artefact, dict_file.parent) for artefact in artefacts([point]))]
