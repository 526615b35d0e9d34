"""What an import loads and how long it takes, in this checkout and in another one.

    python bench/imports.py
    python bench/imports.py --against ../base

Own: files of spic and their lines. All: modules of any package. Seconds: the best of several fresh interpreters.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from spic.commands import Parser, positive

HOME = Path(__file__).resolve().parents[1]
STATEMENTS = ("import spic.coding.stream", "import spic.coding", "import spic.pipeline", "import spic.cli")
COMMAND = ("-m", "spic", "--help")
PROBE = """
import json, sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
own = [m.__file__ for n, m in sorted(sys.modules.items()) if n.partition(".")[0] == "spic" and getattr(m, "__file__", None)]
lines = sum(len(open(file).readlines()) for file in own)
heavy = [name for name in ("numpy", "numba", "torch", "torchvision") if name in sys.modules]
print(json.dumps(dict(own=len(own), lines=lines, all=len(sys.modules), seconds=seconds, heavy=heavy)))
"""


def fresh(checkout: Path, *words: str) -> subprocess.CompletedProcess:
    """A new interpreter that sees only that checkout's spic."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    return subprocess.run([sys.executable, *words], cwd=checkout, env=environment, capture_output=True, text=True)


def probe(checkout: Path, statement: str, times: int) -> dict | None:
    """What the statement loads; None where that checkout has no such module, or it does not import."""
    runs = [fresh(checkout, "-c", PROBE.format(statement=statement)) for _ in range(times)]
    if any(run.returncode for run in runs):
        return None
    found = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    return min(found, key=lambda run: run["seconds"])


def seconds_of_help(checkout: Path, times: int) -> float | None:
    """Wall seconds of `spic --help`, the start of the interpreter included."""
    best = None
    for _ in range(times):
        start = time.perf_counter()
        if fresh(checkout, *COMMAND).returncode:
            return None
        seconds = time.perf_counter() - start
        best = seconds if best is None else min(best, seconds)
    return best


def rows(checkout: Path, times: int) -> list[tuple[str, ...]]:
    """(what, files of spic, their lines, all modules, seconds, heavy packages) of each import, then the command."""
    table = []
    for statement in STATEMENTS:
        run = probe(checkout, statement, times)
        table.append((statement, *(f"{run[key]}" for key in ("own", "lines", "all")), f"{run['seconds']:.2f}",
                      " ".join(run["heavy"]) or "none") if run else (statement, "-", "-", "-", "-", "does not import"))
    seconds = seconds_of_help(checkout, times)
    return [*table, ("spic --help", "", "", "", f"{seconds:.2f}" if seconds else "-", "" if seconds else "no such command")]


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, such as an older commit's")
    parser.add_argument("--times", type=positive, default=3, help="fresh interpreters for each line (default: %(default)s)")
    args = parser.parse_args()
    head = ("", "spic files", "lines", "all modules", "seconds", "loads")
    for checkout in filter(None, (args.against, HOME)):
        print(checkout.resolve().name)
        table = [head, *rows(checkout.resolve(), args.times)]
        widths = [max(map(len, column)) for column in zip(*table)]
        for row in table:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
