"""Whether pictures that are learned from lie among those that are tested on: by what the files hold, not by their names."""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from spic.datasets.imagenet import pictures
from spic.errors import SpicError
from spic.files import sha256


def equal_files(first: Iterable[os.PathLike], second: Iterable[os.PathLike]) -> list[tuple[Path, Path]]:
    """Pairs (one of ``first``, one of ``second``) that hold the same bytes. Only files of equal sizes are read."""
    sizes: dict[int, list[Path]] = {}
    for path in map(Path, second):
        sizes.setdefault(os.path.getsize(path), []).append(path)
    pairs, digests = [], {}
    for path in map(Path, first):
        for other in sizes.get(os.path.getsize(path), ()):
            for file in (path, other):
                digests[file] = digests.get(file) or sha256(file)
            if digests[path] == digests[other]:
                pairs.append((path, other))
    return pairs


def require_apart(paths: Sequence[os.PathLike], folders: Iterable[Path]) -> dict[Path, int]:
    """SpicError if one of the pictures is, byte for byte, one of those in the folders; or if a folder holds none. Returns how
    many each holds."""
    counts = {}
    for folder in folders:
        tested = pictures(folder)
        counts[folder] = len(tested)
        if not tested:
            raise SpicError(f"{folder}: holds no pictures that others could be compared with")
        if pairs := equal_files(paths, tested):
            learned, known = pairs[0]
            more = f" (and {len(pairs) - 1} more pairs)" if pairs[1:] else ""
            raise SpicError(f"{learned}: is the same picture as {known}{more}; what is tested on must not be learned from: "
                            "take it out of one of the folders")
    return counts
