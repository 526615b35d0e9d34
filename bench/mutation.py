"""Which changed operators, numbers and branches of the coder, the points and the files does no test notice?

    python -m venv /tmp/mutation && /tmp/mutation/bin/pip install cosmic-ray
    python bench/mutation.py --tool /tmp/mutation/bin --sample 40
    python bench/mutation.py --tool /tmp/mutation/bin --only rans --sample 0

cosmic-ray changes one thing at a time in a clone of the last commit and runs the tests of its subject with this
interpreter: what no test notices survives, and its change is printed. ``--sample`` draws that many of each subject's
changes at random (0: all of them, hours).
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spic.commands import Parser, guarded, natural
from spic.errors import SpicError
from spic.report import aligned

HOME = Path(__file__).resolve().parent.parent
CONFIG = """[cosmic-ray]
module-path = {paths}
excluded-modules = []
timeout = 120.0
test-command = "{python} -m pytest -q -x -p no:cacheprovider {tests}"

[cosmic-ray.distributor]
name = "local"

[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""  # BitOr stands between types in annotations


@dataclass(frozen=True)
class Subject:
    """The files to change (without ending, below spic/), and the tests to ask (without test_ and ending)."""

    files: str
    tests: str

    def config(self) -> str:
        return CONFIG.format(
            paths=str([f"spic/{name}.py" for name in self.files.split()]).replace("'", '"'),
            python=sys.executable,
            tests=" ".join(f"tests/test_{name}.py" for name in self.tests.split()),
        )


SUBJECTS = {
    "files": Subject("files", "files"),
    "points": Subject("points", "points record"),
    "stream": Subject("coding/stream coding/symbols coding/coder", "stream coding_signed coding_engines"),
    "tables": Subject("coding/tables coding/counting coding/clusters", "coding_tables"),
    "huffman": Subject(
        "coding/huffman/cpu coding/huffman/reference coding/huffman/tables", "coding_huffman coding_engines coding_signed"
    ),
    "rans": Subject("coding/rans/cpu coding/rans/reference coding/rans/tables", "coding_rans coding_engines coding_signed"),
    "contexts": Subject(
        "coding/contexts coding/neighbours coding/selection coding/vectors coding/fitting coding/rdo coding/plain coding/cpu",
        "coding_contexts coding_signed",
    ),
}


def _thin(session: Path, count: int, seed: int) -> tuple[int, int]:
    """How many changes the filter left, and how many of them are kept: ``count`` at random."""
    with sqlite3.connect(session) as base:
        skipped = {job for (job,) in base.execute("SELECT job_id FROM work_results")}
        every = sorted(job for (job,) in base.execute("SELECT job_id FROM work_items") if job not in skipped)
        columns = "job_id, module_path, start_pos_row, start_pos_col, operator_name, occurrence"
        places = {job: place for job, *place in base.execute(f"SELECT {columns} FROM mutation_specs")}
        every.sort(key=places.get)  # job ids differ from session to session
        kept = set(random.Random(seed).sample(every, min(count or len(every), len(every))))
        gone = [(job,) for (job,) in base.execute("SELECT job_id FROM work_items") if job not in kept]
        for table in ("mutation_specs", "work_results", "work_items"):
            base.executemany(f"DELETE FROM {table} WHERE job_id = ?", gone)
    return len(every), len(kept)


def _tool(bin_: Path, copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([bin_ / arguments[0], *arguments[1:]], cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SpicError(f"{' '.join(arguments)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout


def _survivors(bin_: Path, copy: Path, name: str, arguments: argparse.Namespace) -> tuple[int, int, int, str]:
    config, session = copy / f"{name}.toml", copy / f"{name}.sqlite"
    config.write_text(SUBJECTS[name].config())
    _tool(bin_, copy, "cosmic-ray", "init", config.name, session.name)
    _tool(bin_, copy, "cr-filter-operators", session.name, config.name)
    possible, asked = _thin(session, arguments.sample, arguments.seed)
    _tool(bin_, copy, "cosmic-ray", "exec", config.name, session.name)
    with sqlite3.connect(session) as base:
        (alive,) = base.execute("SELECT count(*) FROM work_results WHERE test_outcome = 'SURVIVED'").fetchone()
    return possible, asked, alive, _tool(bin_, copy, "cr-report", session.name, "--show-diff", "--surviving-only")


def run(arguments: argparse.Namespace) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "clone", "-q", HOME, copy], check=True)
        if (HOME.parent / "shared").exists():
            (copy.parent / "shared").symlink_to(HOME.parent / "shared")
        for name in arguments.only or SUBJECTS:
            *counts, changes = _survivors(arguments.tool, copy, name, arguments)
            print(changes, flush=True)
            rows.append(dict(zip(("subject", "possible", "asked", "survived"), (name, *counts))))
    print(aligned(rows))


def main() -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, required=True, help="the folder that holds cosmic-ray")
    parser.add_argument("--only", nargs="+", choices=sorted(SUBJECTS))
    parser.add_argument("--sample", type=natural, default=40)
    parser.add_argument("--seed", type=natural, default=0)
    arguments = parser.parse_args()
    return guarded(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
