"""A folder as of a benchmark with train/ and val/, of its training pictures alone: val/ has every n-th of each class, train/ the
others, as links. What is chosen there is not chosen by the test pictures.

    python bench/held_out.py imagenette-160 imagenette-held-out
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from spic.commands import Parser, guarded, positive
from spic.errors import SpicError
from spic.files import make_folder


def held_out(data: Path, target: Path, every: int) -> dict[str, int]:
    """Make the folder; returns how many pictures train/ and val/ have. One that exists already is refused."""
    pictures = sorted(path for path in (data / "train").glob("*/*") if path.is_file())
    if every < 2:
        raise SpicError("--every 1 leaves nothing to train on; choose 2 or more")
    if not pictures:
        raise SpicError(f"{data / 'train'}: no folder of each class with pictures in it")
    if target.exists():
        raise SpicError(f"{target}: is there already; choose another name")
    counts, places, unfinished = {"train": 0, "val": 0}, {}, target.with_name(f".{target.name}.{os.getpid()}")
    for picture in pictures:
        place = places[picture.parent] = places.get(picture.parent, -1) + 1
        part = "train" if place % every else "val"
        link = make_folder(unfinished / part / picture.parent.name) / picture.name
        link.symlink_to(picture.resolve())
        counts[part] += 1
    os.replace(unfinished, target)
    return counts


def main(argv: list[str] | None = None) -> int:
    parser = Parser("bench/held_out.py", description=__doc__.partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train/CLASS/PICTURE")
    parser.add_argument("target", type=Path, help="folder to make")
    parser.add_argument("--every", type=positive, default=5, help="one picture of so many is held out (default: %(default)s)")
    args = parser.parse_args(argv)
    return guarded(lambda: print(*(f"{part}/ {count} pictures" for part, count in held_out(args.data, args.target, args.every).items())))


if __name__ == "__main__":
    raise SystemExit(main())
