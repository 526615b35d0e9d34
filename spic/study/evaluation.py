"""Measures the shipped points and the study's own: accuracy and coded bytes by val.py, and what each part costs.

    runs/study/<benchmark>/records/<task>/shipped/<coder>-<tables>/S1_0.json      val.py's records
    runs/study/<benchmark>/records/<task>/trained/<coder>-<tables>/S1_4200.json
    runs/study/<benchmark>/curves/<task>/<coder>-<tables>/S1-l1-0.json            the same, sorted: curve and seed
    runs/study/<benchmark>/costs/<task>.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections import defaultdict
from pathlib import Path

from spic import val
from spic.errors import SpicError
from spic.files import write_whole
from spic.points import DICT_FILE, SHARED, load_points
from spic.study import costs, plan
from spic.study.train import folder
from spic.training import recount

VARIANTS = ("rans-shared", "huffman-shared", "rans-channel", "rans-position")  # coder and kind of table


def records(root: Path, task: str, whose: str, variant: str) -> Path:
    """Folder of val.py's records; ``whose``: shipped or trained."""
    return root / "records" / task / whose / variant


def curves(root: Path, task: str, variant: str) -> Path:
    """Folder of the trained points' records, a file per curve and seed."""
    return root / "curves" / task / variant


def costs_file(root: Path, task: str) -> Path:
    return root / "costs" / f"{task}.json"


def measure(args: argparse.Namespace) -> None:
    """Everything there are points for; records that exist already are kept."""
    root = folder(args.runs, args.benchmark)
    catalogues = {"trained": root / "dict.yaml", "shipped": DICT_FILE}
    found = {whose: [task for task in _tasks(catalogue, args.benchmark) if task in args.tasks]
             for whose, catalogue in catalogues.items()}
    if not any(found.values()):
        raise SpicError(f"no points of {args.benchmark}: train some, or choose another --benchmark")
    for whose, tasks in found.items():
        for task in tasks:
            _measure_points(args, task, catalogues[whose], root, whose)
    for task in found["shipped"]:
        costs.write(args.benchmark, task, DICT_FILE, args.data, costs_file(root, task))


def _tasks(catalogue: Path, benchmark: str) -> list[str]:
    keys = load_points(catalogue) if catalogue.exists() else {}
    return sorted({task for task, name, _, _ in keys if name == benchmark})


def _measure_points(args: argparse.Namespace, task: str, catalogue: Path, root: Path, whose: str) -> None:
    shared = ["--benchmark", args.benchmark, "--points", str(catalogue), "--split_point", "all", "--compress_factor",
              "all"]
    kinds = sorted({variant.split("-")[1] for variant in args.variants} - {SHARED})
    if kinds and whose == "trained":
        data = ["--data", str(args.data)] if args.data else []
        _quietly(recount.main, ["--task", task, *shared, *data, "--tables", *kinds])
    for variant in args.variants:
        coder, tables = variant.split("-")
        output = records(root, task, whose, variant)
        how = ["--coder", coder, "--tables", tables, "--output", str(output)]
        _quietly(val.main, task, [*shared, *_pictures(args), *how])
        if whose == "trained":
            _sort(output, curves(root, task, variant), plan.read_notes(root))


def _pictures(args: argparse.Namespace) -> list[str]:
    given = {"--valdir": args.data, "--limit": args.limit, "--workers": args.workers}
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def _quietly(command, *arguments) -> None:
    """Run a command without what it prints for each point; its progress bar and its error stay on stderr."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = command(*arguments)
    if code:
        raise SystemExit(code)


def _sort(source: Path, target: Path, notes: dict[str, dict]) -> None:
    """val.py's records of the trained points -> a file per curve and seed, as spic.curves reads them."""
    groups = defaultdict(list)
    for file in sorted(source.glob("*.json")):
        record = json.loads(file.read_text())
        what = notes["/".join(str(record[key]) for key in ("task", "benchmark", "split_point", "compress_factor"))]
        name = f"{record['split_point']}-{what['estimator']}-{what['seed']}"
        groups[name].append({**record, "curve": f"{record['split_point']} {what['estimator']}", "seed": what["seed"],
                             "estimator": what["estimator"], "compress_factor": what["place"]})
    for name, members in groups.items():
        write_whole(target / f"{name}.json", (json.dumps({"reports": members}, indent=1) + "\n").encode())
