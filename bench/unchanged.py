"""Is everything what it was? Payload bytes, symbols and scores of all operating points against a reference file.

    python bench/unchanged.py --write FILE.json --root DIR --data DIR      once, with the code that is the reference
    python bench/unchanged.py --against FILE.json --root DIR --data DIR    after every change: says "N of N points equal"

Each benchmark runs through the command of val.py, all points in one pass, on a few pictures; a wrapper around
``Coder.encode`` keeps what was coded. A point is equal when its payload bytes, its symbols, its record and its rows per
picture are. The same symbols are then coded by the other coder and with the other tables, without the network.
Both runs need the same machine: another processor rounds elsewhere.

``--data`` holds the folders imagenette-160, camvid and coco-mini (with ``val2017/`` and ``annotations/``).
``--root`` holds what the published points need: ``Weights/`` and ``Freq_tab/`` of imagenet and coco with their checksums,
and ``backbones/imagenet.safetensors`` and ``backbones/coco.safetensors``; their settings are those of the project's
dict.yaml. Without ``--root`` or ``--data``, what needs it is not measured, and so not equal.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from machine import describe

import spic
from spic import val
from spic.coding import Coder, FrequencyTable, make_coder
from spic.errors import SpicError

PROJECT = Path(spic.__file__).resolve().parents[1]
# Of one thread each: how a sum is shared among threads changes its last bit, and threads that wait for each other are slow
# on a busy machine.
PROCESSES = 2
RANS = (("rans", "shared"),)
EVERY = (*RANS, ("rans", "position"), ("rans", "channel"), ("rans", "context"))
RECORD = ("images", "top1", "top5", "miou", "baseline_top1", "baseline_top5", "baseline_miou", "bpp", "bpp_wire",
          "bpp_table", "bytes_per_image", "escapes", "uncoded_values_per_image")
ROWS = ("label", "prediction", "top1", "top5", "miou", "payload_bytes", "frame_bytes", "escapes")


@dataclass(frozen=True)
class Pass:
    """One call of val.py: all points of a benchmark on ``limit`` pictures of ``folder`` in --data.

    ``recode``: coders and tables that then code the same symbols, without the network.
    """

    task: str
    benchmark: str
    folder: str | None
    limit: int
    batch_size: int
    recode: tuple[tuple[str, str], ...] = ()
    coder: str = "huffman"
    tables: str = "shared"
    published: bool = False

    def __str__(self) -> str:
        return f"{self.task} {self.benchmark} {self.coder} {self.tables}"


PASSES = (  # the longest first, so that two processes end together
    Pass("segmentation", "coco", "coco-mini", 2, 2, RANS, published=True),
    Pass("segmentation", "camvid", "camvid", 6, 3, EVERY),
    Pass("segmentation", "scenes", None, 8, 4, EVERY),
    Pass("classification", "scenes", None, 48, 24, EVERY),
    Pass("classification", "imagenette", "imagenette-160", 32, 32, EVERY),
    Pass("classification", "imagenet", "imagenette-160", 6, 6, RANS, published=True),
    # What else the command does for another coder (records, streams) is the same code for all benchmarks.
    *(Pass("classification", "scenes", None, 8, 8, (), coder, tables) for coder, tables in EVERY),
    Pass("segmentation", "scenes", None, 1, 1, (), "rans", "position"),
)


class Recorder:
    """While active, keeps what every coder was given and what it made of it."""

    def __init__(self) -> None:
        self.calls: dict[int, tuple[Coder, list[np.ndarray], list[bytes]]] = {}

    def __enter__(self) -> Recorder:
        self._encode = encode = Coder.encode

        def recorded(coder, symbols):
            payloads = encode(coder, symbols)
            _, images, coded = self.calls.setdefault(id(coder), (coder, [], []))
            images.extend(np.asarray(symbols.cpu() if isinstance(symbols, torch.Tensor) else symbols).astype(np.int32))
            coded.extend(map(bytes, payloads))
            return payloads

        Coder.encode = recorded
        return self

    def __exit__(self, *_) -> None:
        Coder.encode = self._encode

    def take(self, digest: str, sizes: list[int]) -> tuple[list[np.ndarray], list[bytes]]:
        """Symbols and payloads of the pictures of the coder with this table whose payloads have these sizes.

        Trials before the first picture are left out. Two coders that agree in both are told apart by their order.
        """
        for key, (coder, images, coded) in self.calls.items():
            if coder.table.digest == digest and [len(payload) for payload in coded[-len(sizes):]] == sizes:
                del self.calls[key]
                return images[-len(sizes):], coded[-len(sizes):]
        raise SpicError("no coder made payloads of the sizes that the rows per picture tell")


def measure(part: Pass, args: argparse.Namespace) -> dict[str, tuple[dict, np.ndarray]]:
    """Make one pass; point, coder and tables -> (the entry of the reference file, the symbols)."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, _dict_file(part, args.root) as points:
        with Recorder() as recorder:
            _run_val(part.task, _command(part, args, points, scratch))
        measured = {}
        for record, rows in _results(Path(scratch)):
            table = _table(points.parent, record, part.tables)
            images, payloads = recorder.take(table.digest, [int(row["payload_bytes"]) for row in rows])
            symbols = np.stack(images)
            measured[_key(record, part.coder, part.tables)] = _entry(record, rows, table, symbols, payloads), symbols
            for coder, tables in part.recode:
                again = _recode(coder, _table(points.parent, record, tables), symbols)
                measured[_key(record, coder, tables) + "/coded again"] = again, symbols
        return measured


@contextlib.contextmanager
def _dict_file(part: Pass, root: Path | None) -> Iterator[Path]:
    """The project's dict.yaml; for the published points a copy of it beside their files."""
    if not part.published:
        yield PROJECT / "dict.yaml"
        return
    copy = root.resolve() / f"dict.{os.getpid()}.yaml"
    shutil.copyfile(PROJECT / "dict.yaml", copy)
    try:
        yield copy
    finally:
        copy.unlink()


def _command(part: Pass, args: argparse.Namespace, points: Path, scratch: str) -> list[str]:
    words = ["--benchmark", part.benchmark, "--split_point", "all", "--compress_factor", "all", "--points", str(points),
             "--coder", part.coder, "--tables", part.tables, "--limit", str(part.limit), "--workers", "0",
             "--batch_size", str(part.batch_size), "--output", scratch, "--per_image", scratch]
    words += ["--valdir", str(args.data / part.folder)] if part.folder else []
    words += ["--backbone_weights", str(args.root / "backbones" / f"{part.benchmark}.safetensors")] if part.published else []
    return words


def _run_val(task: str, command: list[str]) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = val.main(task, command)
    if code:
        raise SpicError(f"val.py ended with {code}: {said.getvalue().splitlines()[-1]}")


def _results(folder: Path) -> Iterator[tuple[dict, list[dict]]]:
    """Record and rows per picture of each point of a run."""
    for path in sorted(folder.glob("*.json")):
        with open(path.with_suffix(".csv"), newline="") as file:
            yield json.loads(path.read_text()), list(csv.DictReader(file))


def _key(record: dict, coder: str, tables: str) -> str:
    point = (record[name] for name in ("task", "benchmark", "split_point", "compress_factor"))
    return "/".join(map(str, (*point, coder, tables)))


def _table(root: Path, record: dict, tables: str) -> FrequencyTable:
    suffix = "" if tables == "shared" else f".{tables}"
    name = f"{record['task']}_{record['compress_factor']}{suffix}.json"
    return FrequencyTable.load(root / "Freq_tab" / record["benchmark"] / record["split_point"] / name)


def _entry(record: dict, rows: list[dict], table: FrequencyTable, symbols: np.ndarray, payloads: list[bytes]) -> dict:
    """What a point's reference says; hashes where the values are many."""
    told = {**record, **record["scores"], **{f"baseline_{name}": value for name, value in record["baseline"].items()}}
    return {
        **_coded(table, symbols, payloads),
        **{name: told[name] for name in RECORD if name in told},
        **{f"{name} per picture": _sha256(repr([row[name] for row in rows]).encode()) for name in ROWS if name in rows[0]},
    }


def _coded(table: FrequencyTable, symbols: np.ndarray, payloads: list[bytes]) -> dict:
    return {"payloads": _sha256(b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)),
            "payload_bytes": sum(map(len, payloads)),
            "symbols": _sha256(str(symbols.shape).encode() + symbols.astype("<i4").tobytes()), "table": table.digest}


def _recode(name: str, table: FrequencyTable, symbols: np.ndarray) -> dict:
    """The entry of a coder that was given symbols of the road, which it must also give back."""
    coder = make_coder(name, table)
    payloads = coder.encode(symbols)
    if not np.array_equal(np.asarray(coder.decode(payloads, symbols.shape[1:])), symbols):
        raise SpicError(f"{name}: decoded symbols differ from the encoded ones")
    return _coded(table, symbols, payloads)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def measure_all(args: argparse.Namespace) -> tuple[dict[str, dict], dict[str, np.ndarray], bool]:
    """Results and symbols of all passes that --only, --root and --data allow, and whether each of them succeeded."""
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes read it when they import torch
    measured: dict[str, tuple[dict, np.ndarray]] = {}
    complete = True
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        waiting = [pool.submit(_attempt, part, args) for part in PASSES if _wanted(part, args)]
        for run in as_completed(waiting):
            result, said = run.result()
            print(said, flush=True)
            measured |= result
            complete &= bool(result)
    entries, symbols = ({key: pair[i] for key, pair in measured.items()} for i in range(2))
    return entries, symbols, complete


def _attempt(part: Pass, args: argparse.Namespace) -> tuple[dict, str]:
    """One pass and what to say of it; whatever goes wrong in it, the others still tell something."""
    start, cpu = time.perf_counter(), time.process_time()
    try:
        result = measure(part, args)
    except Exception as error:  # noqa: BLE001
        return {}, f"{part}: FAILED, {type(error).__name__}: {error}"
    seconds = f"{time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} of a processor"
    return result, f"{part}: {len(result)} results, {seconds}"


def _wanted(part: Pass, args: argparse.Namespace) -> bool:
    at_hand = (args.data or not part.folder) and (args.root or not part.published)
    return bool(at_hand) and (not args.only or part.benchmark in args.only)


def differences(was: dict, now: dict | None) -> list[str]:
    """What of one point's entry is not as it was; what is measured now and was not then does not count."""
    if now is None:
        return ["not measured"]
    return [name if isinstance(value, str) else f"{name} {value!r} -> {now.get(name)!r}"
            for name, value in was.items() if not _same(value, now.get(name))]


def _same(was, now) -> bool:
    """Floats may be summed in another order: their last digits are free, a symbol or a pixel more is not."""
    if isinstance(was, float) and isinstance(now, (int, float)):
        return math.isclose(was, now, rel_tol=1e-12, abs_tol=1e-15) or math.isnan(was) and math.isnan(now)
    return was == now


def _distance(was: np.ndarray | None, now: np.ndarray | None) -> str:
    """How far symbols are from the reference's: a few by one is rounding, else it is another computation."""
    if was is None or now is None:
        return ""
    if was.shape != now.shape:
        return f"; symbols of shape {was.shape} -> {now.shape}"
    off = np.abs(was.astype(np.int64) - now)
    return f"; {np.count_nonzero(off)} of {off.size} symbols differ, by at most {off.max()}" if off.any() else ""


def _point(key: str) -> str:
    return "/".join(key.split("/")[:4])


def compare(reference: dict, kept: dict, entries: dict, symbols: dict) -> int:
    """Print what differs from the reference and how many points are equal; returns how many are not."""
    different = {key: found for key, was in reference.items() if (found := differences(was, entries.get(key)))}
    for key, found in different.items():
        print(f"{key}: {', '.join(found)}{_distance(kept.get(key), symbols.get(key))}")
    if new := entries.keys() - reference.keys():
        print(f"not in the reference: {len(new)} results, such as {min(new)}")
    points, bad = {_point(key) for key in reference}, {_point(key) for key in different}
    print(f"{len(reference) - len(different)} of {len(reference)} results equal, over all coders and tables\n"
          f"{len(points) - len(bad)} of {len(points)} points equal")
    return len(bad)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", type=Path, metavar="FILE", help="write a reference from the code at hand")
    group.add_argument("--against", type=Path, metavar="FILE", help="compare with a reference")
    parser.add_argument("--root", type=Path, metavar="DIR", help="weights, tables and backbones of the published points")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted({part.benchmark for part in PASSES}),
                        help="these benchmarks alone")
    return parser.parse_args(argv)


def _symbols_file(path: Path) -> Path:
    return path.with_suffix(".npz")


def _write(path: Path, entries: dict, symbols: dict) -> None:
    path.write_text(json.dumps({"machine": describe(), "points": entries}, indent=1) + "\n")
    np.savez_compressed(_symbols_file(path), **{key: values for key, values in symbols.items() if "again" not in key})
    print(f"{len(entries)} points written to {path}")


def _read(path: Path) -> tuple[dict, dict]:
    """The reference's entries, and its symbols if they still lie beside it: they only explain a difference."""
    try:
        content = json.loads(path.read_text())
        reference, machine = content["points"], content["machine"]
    except (OSError, ValueError, KeyError) as error:
        raise SpicError(f"{path}: not a reference of this program ({error}); make one with --write") from None
    for name in ("cpu", "torch"):
        if machine[name] != describe()[name]:
            print(f"note: the reference was made with {name} {machine[name]}, this is {describe()[name]}")
    kept = _symbols_file(path)
    return reference, np.load(kept) if kept.exists() else {}


def _chosen(reference: dict, only: list[str] | None) -> dict:
    return {key: entry for key, entry in reference.items() if not only or key.split("/")[1] in only}


def run(args: argparse.Namespace) -> None:
    print(f"spic of {PROJECT}")
    reference, kept = _read(args.against) if args.against else ({}, {})
    entries, symbols, complete = measure_all(args)
    if args.against:
        if different := compare(_chosen(reference, args.only), kept, entries, symbols):
            raise SpicError(f"{different} points are not what they were")
    elif complete:
        _write(args.write, entries, symbols)
    else:
        raise SpicError(f"{args.write}: not written, because a pass failed")


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: all equal, or written; 2: not."""
    try:
        run(parse(argv))
        return 0
    except SpicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
