"""What is kept between runs, under $SPIC_CACHE or ~/.cache/spic: listed and cleared by `spic cache`.

    spic cache                                      what lies there
    spic cache clear features --older-than 30       remove features that nobody used for 30 days

Everything there is made again when it is missed. Features are bounded: see ``FEATURES``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spic.commands import Parser, guarded
from spic.errors import SpicError
from spic.files import cache_root

LIMIT_VARIABLE = "SPIC_CACHE_GB"
DAY = 86_400


@dataclass(frozen=True)
class Entry:
    """One thing that can be removed by itself. used: seconds since the epoch, of its last use."""

    kind: str
    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class Kind:
    """One kind of what is kept: ``pattern`` finds its entries under the cache folder. limit_gb: of all of them; None: none."""

    name: str
    pattern: str
    what: str
    limit_gb: float | None = None

    @property
    def folder(self) -> Path:
        return cache_root() / Path(self.pattern).parent

    def entries(self) -> list[Entry]:
        """Those that are there, the least recently used first."""
        paths = [path for path in cache_root().glob(self.pattern) if path.suffix != ".lock" and path.name != ".lock"]
        return sorted((Entry(self.name, path, _bytes(path), _used(path)) for path in paths), key=lambda entry: entry.used)

    @property
    def limit_bytes(self) -> float:
        return float("inf") if self.limit_gb is None else _limit(self.limit_gb)

    def make_room(self, need_bytes: int, keep: Iterable[Path] = ()) -> None:
        """Remove the least recently used entries until as many bytes fit under the limit; more than it holds is refused."""
        if need_bytes > self.limit_bytes:
            raise SpicError(f"{self.what}: {need_bytes / 1e9:.1f} GB, and the cache holds {self.limit_bytes / 1e9:g} GB; use "
                            f"fewer pictures (--limit), another cut, or set {LIMIT_VARIABLE} to more")
        spared, entries = set(keep), self.entries()
        total = sum(entry.bytes for entry in entries) + need_bytes
        for entry in entries:
            if total <= self.limit_bytes:
                return
            if entry.path not in spared:
                remove(entry.path)
                total -= entry.bytes


FEATURES = Kind("features", "features/*", "what a network's front gives for training pictures", 20)
KINDS = {kind.name: kind for kind in (
    FEATURES,
    Kind("passes", "passes/*", "counts of evaluations that were interrupted"),
    Kind("scenes", "scenes-*", "pictures drawn for the embedded benchmark"),
    Kind("coco", "coco/*", "lists of the pictures of COCO that count"),
    Kind("rivals", "rivals/*", "pictures coded by other codecs"),
)}


def touch(path: Path) -> None:
    """Note that an entry was used now; one that may only be read stays as it is."""
    try:
        os.utime(path)
    except OSError:
        pass


def remove(path: Path) -> None:
    """Remove a file or a folder; one that is gone is fine, one that others use stays readable for them."""
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SpicError(f"{path}: cannot be removed ({error.strerror})") from None


def _limit(default_gb: float) -> float:
    text = os.environ.get(LIMIT_VARIABLE) or str(default_gb)
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = -1
    if not limit > 0:
        raise SpicError(f"{LIMIT_VARIABLE}={text}: must be a number of gigabytes above 0")
    return limit


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(_size(file) for file in files)


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # removed meanwhile
        return 0


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


# ---- the command -------------------------------------------------------------------------------------------------


def clear(kinds: Sequence[str] = (), older_than_days: float = 0) -> list[Entry]:
    """Remove entries of some kinds (none named: of all) that were not used for so many days; what was removed."""
    latest = time.time() - older_than_days * DAY
    found = [entry for name in kinds or KINDS for entry in KINDS[name].entries() if entry.used <= latest]
    for entry in found:
        remove(entry.path)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = Parser("spic cache", description="What is kept between runs: all of it is made again when it is missed.")
    verbs = parser.add_subparsers(dest="verb", parser_class=Parser, metavar="{list,clear}")
    shown = verbs.add_parser("list", prog="spic cache list", help="what lies there (what `spic cache` alone does)",
                             description="List what is kept between runs.")
    shown.add_argument("--json", action="store_true", help="every entry, for programs")
    cleared = verbs.add_parser("clear", prog="spic cache clear", help="remove it", description="Remove what is kept.")
    cleared.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(KINDS)} (default: all)")
    cleared.add_argument("--older-than", type=_days, default=0.0, metavar="DAYS", help="only what was not used for so long")
    return parser


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return days


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = _parser().parse_args(argv)
    return guarded(lambda: _clear(args) if args.verb == "clear" else _list(getattr(args, "json", False)))


def _clear(args: argparse.Namespace) -> None:
    unknown = [name for name in args.what if name not in KINDS]
    if unknown:
        raise SpicError(f"unknown kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    removed = clear(args.what, args.older_than)
    print(f"removed {len(removed)} of {cache_root()}: {sum(entry.bytes for entry in removed) / 1e6:.1f} MB")


def _list(as_json: bool) -> None:
    found = {name: kind.entries() for name, kind in KINDS.items()}
    if as_json:
        print(json.dumps([{"kind": e.kind, "path": str(e.path), "bytes": e.bytes, "used": e.used}
                          for entries in found.values() for e in entries], indent=1))
        return
    print(f"{cache_root()} (SPIC_CACHE)\n\n{'kind':<10}{'entries':>8}{'MB':>10}{'last use':>12}  what")
    for name, entries in found.items():
        used = time.strftime("%Y-%m-%d", time.localtime(entries[-1].used)) if entries else ""
        print(f"{name:<10}{len(entries):>8}{sum(e.bytes for e in entries) / 1e6:>10.1f}{used:>12}  {KINDS[name].what}")
    print(f"\nfeatures take at most {FEATURES.limit_bytes / 1e9:g} GB ({LIMIT_VARIABLE}); the least recently used go first.\n"
          "spic cache clear [KIND ...] [--older-than DAYS] removes entries.")


if __name__ == "__main__":
    raise SystemExit(main())
