"""All operating points in one pass over the network, against one run per point, on the same images in one run.

    python bench/one_pass.py --task classification --limit 64
    python bench/one_pass.py --benchmark imagenet --valdir DIR --backbone_weights FILE --limit 64

Both ways call the command of val.py itself, image loading included; the records must agree number by number.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

from machine import describe

from spic import val
from spic.benchmarks import EMBEDDED
from spic.commands import Parser, guarded, positive
from spic.errors import SpicError
from spic.files import check_writable
from spic.points import load_points

SAME = ("images", "scores", "baseline", "bpp", "bpp_wire", "bpp_table", "escapes")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--task", default="classification", choices=("classification", "segmentation"))
    add("--benchmark", default=EMBEDDED)
    add("--valdir")
    add("--backbone_weights")
    add("--coder", default="rans")
    add("--limit", type=positive, default=64)
    add("--output", type=Path)
    return parser.parse_args(argv)


def run_val(args: argparse.Namespace, folder: Path, split_point: str, factor: str) -> float:
    """Seconds of one call of val.py's command; records go to ``folder``."""
    given = {"--benchmark": args.benchmark, "--valdir": args.valdir, "--backbone_weights": args.backbone_weights,
             "--coder": args.coder, "--limit": str(args.limit), "--split_point": split_point,
             "--compress_factor": factor, "--output": str(folder)}
    command = [word for name, value in given.items() if value for word in (name, value)]
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = val.main(args.task, command)
    if code:
        raise SpicError("val.py failed; its message stands above")
    return time.perf_counter() - start


def differences(together: Path, alone: Path) -> list[str]:
    """Records that do not agree."""
    files = sorted(path.name for path in alone.glob("*.json"))
    pairs = [(name, json.loads((together / name).read_text()), json.loads((alone / name).read_text())) for name in files]
    return [f"{name} {key}" for name, a, b in pairs for key in SAME if a.get(key) != b.get(key)]


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    points = [key[2:] for key in load_points() if key[:2] == (args.task, args.benchmark)]
    with tempfile.TemporaryDirectory() as scratch:
        together, alone = Path(scratch, "together"), Path(scratch, "alone")
        run_val(args, Path(scratch, "warm"), *map(str, points[0]))
        one_pass = run_val(args, together, "all", "all")
        singles = sum(run_val(args, alone, split, str(factor)) for split, factor in points)
        different = differences(together, alone)
    print(f"{len(points)} points, {args.limit} images: one pass {one_pass:.1f} s, single runs {singles:.1f} s, "
          f"{singles / one_pass:.1f} times faster; {len(different)} numbers differ {' '.join(different[:5])}")
    if args.output:
        result = {"machine": describe(), "points": len(points), "images": args.limit, "one_pass_s": one_pass,
                  "single_runs_s": singles, "ratio": singles / one_pass, "different": different}
        args.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    arguments = parse()
    raise SystemExit(guarded(lambda: _run(arguments)))
