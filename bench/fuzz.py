"""Damaged input of every kind: each must end in one line of a SpicError, or in a right result.

    python bench/fuzz.py --cases 100000
    python bench/fuzz.py --only records annotations --cases 2000 --seed 7
    python bench/fuzz.py --only records --seed 7 --first 1234 --cases 1      one case again

A case depends on (seed, target, number) alone. Each target runs in a process of its own, which may take a few GB and seconds
of a case, so that a crash, a hang and a flood of memory count as what they are. Ends with code 1 and the seed and number of
the first case that is neither refused nor right; of a target, that case is the last.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import mmap
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mutations import ARCHIVES, STRANGE, archive, changed_archive, changed_text, changed_tree, changed_word, repacked
from PIL import Image
from torch import nn

from spic.bottleneck import PUBLISHED_PIXELS, make_bottleneck
from spic.coding import fuzz as coding
from spic.coding.engine import CODERS
from spic.commands import natural, positive
from spic.datasets.coco import VOC_CATEGORIES, CocoSegmentation
from spic.errors import SpicError
from spic.points import OperatingPoint, load_points, select
from spic.published.checkpoints import _ROLES, read_checkpoint
from spic.published.source import read_files
from spic.record import Record, read_results
from spic.report import aligned
from spic.training.checkpoint import Run

GROWTH = 4 << 30  # bytes of address space that a target may take beyond what it begins with
SLOWEST_S = 20.0
LONGEST_LINE = 2000
WARM_UP = 100
Case = Callable[[random.Random], None]


class Offence(AssertionError):
    """A case that is neither refused in one line nor right."""


class TooSlow(BaseException):
    """Not an Exception: what is attacked may turn any of those into an error of ours."""


# ---- targets: each prepares its undamaged inputs in a folder and returns a case ----------------------------------------


def streams(folder: Path) -> Case:
    return _one_of([coding.stream_case(name, random.Random(1)) for name in CODERS])


def payloads(folder: Path) -> Case:
    return _one_of([coding.payload_case(name, random.Random(2)) for name in CODERS])


def tables(folder: Path) -> Case:
    return coding.table_case(folder)


def _one_of(cases: list[Case]) -> Case:
    return lambda rng: rng.choice(cases)(rng)


POINTS = """# points
classification:
  network: torchvision:resnet50
  imagenette:
    S1: {0: {step: 0.5, stride: 2, channels: 6, weights: W/a.safetensors, table: T/a.json},
         1: {step: 1, stride: 1, channels: 4096, weights: "W/b c.safetensors", table: "${.weights}", cut: layer1}}
segmentation:
  own-name:
    cut: &cut layer2.0
    mine:
      activation: none
      7: &seven {step: 1.5e-1, stride: 64, channels: 1, weights: W/c.safetensors, table: T/c.json}
      8: *seven
"""


def points(folder: Path) -> Case:
    """dict.yaml."""
    path = folder / "dict.yaml"
    path.write_text(POINTS)
    _require(len(load_points(path)) == 4, "the undamaged dict.yaml is another one")

    def case(rng: random.Random) -> None:
        text = rng.choice((changed_text, changed_text, changed_word))(POINTS, rng)
        data = text.encode("utf-8", "surrogatepass")
        path.write_bytes(coding.damage(data, rng) if rng.random() < 0.1 else data)
        loaded = load_points(path)
        _check_points(loaded)
        if loaded:
            task, benchmark, *_ = next(iter(loaded))
            _require(bool(select(loaded, task, benchmark, ["all"], ["all"])), "no point can be selected")
    return case


def _check_points(loaded: dict) -> None:
    for key, point in loaded.items():
        whole = all(type(value) is int and value > 0 for value in (point.stride, point.channels))
        _require(point.key == key and whole and type(key[3]) is int and key[3] >= 0, f"{key}: of other types")
        _require(0 < point.step < math.inf and point.name.isprintable(), f"{key}: step {point.step}")
        _require(len(point.name) < 300 and "\0" not in f"{point.weights}{point.table}", f"{key}: names of no file")
        point.weights.exists(), point.table.exists()


def checkpoints(folder: Path) -> Case:
    """Of a training that is resumed, and published ones."""
    return _one_of([_training_case(folder), _published_case()])


STRANGE_STATES = (*STRANGE, torch.zeros(5), torch.full((2, 3), math.nan), torch.zeros(1, dtype=torch.int8),
                  torch.zeros(1).expand(1 << 40), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3).to_sparse())


def _training_case(folder: Path) -> Case:
    run = Run(folder / "run.pt", {"step": 1.0, "cut": "layer1", "feature": [3, 2, 2]})
    run.save(3, **_parts())
    whole = run.path.read_bytes()
    state = torch.load(io.BytesIO(whole), weights_only=True)

    def case(rng: random.Random) -> None:
        run.path.write_bytes(_damaged_zip(whole, state, rng))
        parts = _parts()
        done = run.restore(**parts)
        _require(type(done) is int and done >= 0, f"{done!r} epochs are done")
        _train_on(parts)
    return case


def _parts() -> dict:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam([{"params": list(network.parameters()), "factor": 0.5}], lr=0.1)
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    return {"network": network, "optimizer": optimizer}


def _train_on(parts: dict) -> None:
    """What is restored must be able to go on, whatever comes out of it."""
    optimizer = parts["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["factor"]
    optimizer.zero_grad()
    parts["network"](torch.ones(4, 3)).sum().backward()
    optimizer.step()


def _published_case() -> Case:
    point = OperatingPoint("segmentation", "coco", "S1", 4, 3.0, 8, 2, Path("w"), Path("t"))
    ours = make_bottleneck((256, 65, 65), 2, 8, PUBLISHED_PIXELS).state_dict()
    theirs = {role: name for name, role in _ROLES.items()}
    state = {f"{theirs[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in ours.items()}
    state |= {"priorEncoder.bn1.weight": torch.ones(8), "priorEncoder.bn1.bias": torch.zeros(8),
              "priorEncoder.conv1.bias": torch.full((8,), 0.01)}
    stored = {"state_dict": state}
    whole = _saved(stored)

    def case(rng: random.Random) -> None:
        found = read_checkpoint(_damaged_zip(whole, stored, rng), point, "model.pth.tar")
        _require({name: value.shape for name, value in found.state.items()} ==
                 {name: value.shape for name, value in ours.items()}, "a bottleneck of another shape")
        _require(all(bool(value.isfinite().all()) for value in found.state.values()), "weights that are no numbers")
        found.to_bytes(), found.content
    return case


def _saved(state) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _damaged_zip(whole: bytes, state, rng: random.Random) -> bytes:
    """Its bytes, one of its members behind right checksums, or what it says."""
    match rng.randrange(4):
        case 0: return coding.damage(whole, rng)
        case 1: return repacked(whole, rng, coding.damage)
        case _: return _saved(changed_tree(state, rng, STRANGE_STATES))


RECORD = Record(
    "classification", "imagenette", 12, {"top1": 91.5, "top5": 99.0, "agreement": 97.0}, {"top1": 92.0, "top5": 99.5}, 0.125,
    0.25, 784.0, "cpu", 0.12, 3, 0, "S1", 2, "rans", "channel", False, seconds={"front": 0.5}, versions={"torch": "2"},
    inputs={"limit": 12, "valdir": None}, more={"per_image": "0" * 64})
RIVAL = Record("segmentation", "coco", 2, {"miou": math.nan, "agreement": 50.0}, {"miou": 0.6}, 1.5, 1.5, 9.0, codec="jpeg",
               quality=-3, quality_name="Q", chroma="4:2:0", settings="")


def records(folder: Path) -> Case:
    """Files of one record and of several."""
    path, single = folder / "results.json", RECORD.to_json()
    several = {"records": [single, RIVAL.to_json()], "missing": {"hevc": "not installed"}}

    def case(rng: random.Random) -> None:
        content = changed_tree(rng.choice((single, several)), rng)
        text = json.dumps(content) if rng.random() < 0.7 else \
            rng.choice((changed_text, changed_word))(json.dumps(several), rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        for record in read_results([rng.choice((path, folder))]).records:
            _check_record(record)
    return case


def _check_record(record: Record) -> None:
    again = Record.from_json(json.loads(json.dumps(record.to_json())), "again")
    _require(json.dumps(asdict(again)) == json.dumps(asdict(record)), "written and read again, the record is another one")
    for value in (record.accuracy, record.baseline_accuracy, record.bpp, record.bpp_wire):
        f"{value:.3f}"
    _require(math.isfinite(record.bpp) and record.images > 0, "a rate that is no number")


WIDTH, HEIGHT = 48, 32


def annotations(folder: Path) -> Case:
    """COCO's, of three small pictures: polygons, run lengths as a list and as a text."""
    for number in (1, 2, 3):
        Image.new("RGB", (WIDTH, HEIGHT), (number, 100, 200)).save(folder / f"{number}.png")
    box = [[1, 1, WIDTH - 1, 1, WIDTH - 1, HEIGHT - 1, 1.5, HEIGHT - 1.25]]
    runs = {"size": [HEIGHT, WIDTH], "counts": [10, WIDTH * HEIGHT - 20, 10]}
    text = {"size": [HEIGHT, WIDTH], "counts": "".join(map(_coco_digits, runs["counts"]))}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in (1, 2, 3)],
        "annotations": [{"id": n, "image_id": n, "category_id": 5, "segmentation": drawn, "iscrowd": 0}
                        for n, drawn in enumerate((box, runs, text), 1)],
        "categories": [{"id": 5, "name": "airplane"}]}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    _require(_read_masks(folder, path) == 3, "the undamaged annotations are others")

    def case(rng: random.Random) -> None:
        text = json.dumps(changed_tree(content, rng)) if rng.random() < 0.8 else \
            rng.choice((changed_text, changed_word))(json.dumps(content), rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        _read_masks(folder, path)
    return case


def _coco_digits(value: int) -> str:
    digits = []
    while value > 15:
        digits.append(chr(48 + (value & 31 | 32)))
        value >>= 5
    return "".join((*digits, chr(48 + value)))


def _read_masks(folder: Path, path: Path) -> int:
    """How many pictures there are, each of whose masks is of its own size and classes."""
    with _cache(folder / "cache"), contextlib.redirect_stderr(io.StringIO()):
        dataset = CocoSegmentation(folder, path, transform=lambda image, mask: (image, np.asarray(mask)))
        dataset.class_names
        for number in range(len(dataset)):
            image, mask = dataset[number]
            _require(mask.shape == image.size[::-1] and mask.max() < len(VOC_CATEGORIES), "a mask of another size or class")
    return len(dataset)


@contextlib.contextmanager
def _cache(folder: Path):
    """A cache that is empty, and gone afterwards."""
    before = os.environ.get("SPIC_CACHE")
    os.environ["SPIC_CACHE"] = str(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("SPIC_CACHE")
        os.environ.update({"SPIC_CACHE": before} if before else {})


def archives(folder: Path) -> Case:
    """A .zip and tars that hold one of the published files."""
    path, whole = folder / "archive", [archive(kind) for kind in ARCHIVES]

    def read() -> list:
        return list(read_files(str(path), {"wanted": 10}))

    for data in whole:
        path.write_bytes(data)
        _require(read() == [("wanted", b"0123456789")], "an undamaged archive holds something else")

    def case(rng: random.Random) -> None:
        path.write_bytes(changed_archive(rng.choice(whole), rng))
        _require(all(name == "wanted" and len(content) <= 11 for name, content in read()), "more than was wanted")
    return case


TARGETS: dict[str, Callable[[Path], Case]] = {
    target.__name__: target for target in (streams, payloads, tables, points, checkpoints, records, annotations, archives)}


def _require(right: bool, otherwise: str) -> None:
    if not right:
        raise Offence(otherwise)


# ---- cases of one target -----------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What the cases of a target came to. worst: the number of the slowest case. peak_mb: memory beyond the
    first."""

    cases: int = 0
    refused: int = 0
    accepted: int = 0
    seconds: float = 0.0
    worst_ms: float = 0.0
    worst: int = 0
    peak_mb: float = 0.0


def attack(name: str, numbers: Iterable[int], seed: int, folder: Path,
           note: Callable[[int], None] = lambda number: None) -> Tally:
    """Run the cases with these numbers; an Offence for the first that is neither refused in one line nor right."""
    case, tally = TARGETS[name](folder), Tally()
    with contextlib.suppress(Offence):  # what is compiled at its first use is no case's time
        for number in range(WARM_UP):
            _refuses(case, random.Random(f"warm {name} {number}"), name)
    begun = time.perf_counter()
    for number in numbers:
        note(number)
        start = time.perf_counter()
        refused = _refuses(case, random.Random(f"{seed} {name} {number}"), f"{name}, --seed {seed}, case {number}")
        spent = 1000 * (time.perf_counter() - start)
        tally.cases, tally.refused = tally.cases + 1, tally.refused + refused
        tally.worst_ms, tally.worst = max((tally.worst_ms, tally.worst), (spent, number))
    tally.accepted, tally.seconds = tally.cases - tally.refused, time.perf_counter() - begun
    return tally


def _refuses(case: Case, rng: random.Random, where: str) -> bool:
    try:
        case(rng)
        return False
    except SpicError as error:
        message = str(error)
        if not message or len(message.splitlines()) > 1 or len(message) > LONGEST_LINE:
            raise Offence(f"{where}: refused in {len(message.splitlines())} lines of {len(message)} characters: "
                          f"{message[:300]!r}") from error
        return True
    except (Exception, TooSlow) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise Offence(f"{where}: {type(error).__name__}: {str(error)[:300]} ({place})") from error


# ---- a process of its own ----------------------------------------------------------------------------------------------


def guarded_attack(name: str, numbers: range, seed: int) -> Tally:
    """As ``attack``, in a forked process with limits; its death is an Offence, too."""
    at, context = mmap.mmap(-1, 8), multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(False)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        process = context.Process(target=_child, args=(sender, at, name, numbers, seed, Path(folder)))
        process.start()
        sender.close()
        _watch(process, at, receiver)
        where = f"{name}, --seed {seed}, case {_number(at)}"
        try:
            result = receiver.recv()
        except EOFError:
            raise Offence(f"{where}: the process ended with code {process.exitcode}") from None
        process.join()
    if isinstance(result, str):
        raise Offence(result)
    return result


def _watch(process, at: mmap.mmap, receiver) -> None:
    """Until there is an answer, or the process has stood still for far longer than a case may take."""
    seen, since = -1, time.monotonic()
    while process.is_alive() and not receiver.poll(0.2):
        if _number(at) != seen:
            seen, since = _number(at), time.monotonic()
        elif time.monotonic() - since > 6 * SLOWEST_S:
            process.kill()
    if not process.is_alive():
        process.join()


def _number(at: mmap.mmap) -> int:
    return struct.unpack("q", at[:8])[0]


def _child(sender, at: mmap.mmap, name: str, numbers: range, seed: int, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    resident, virtual = (_of_status(key) for key in ("VmRSS", "VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (virtual + GROWTH,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _too_slow)

    def note(number: int) -> None:
        at[:8] = struct.pack("q", number)
        signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)

    try:
        tally = attack(name, numbers, seed, folder, note)
        tally.peak_mb = (_of_status("VmHWM") - resident) / (1 << 20)
        sender.send(tally)
    except Offence as error:
        sender.send(str(error))


def _too_slow(*_) -> None:
    raise TooSlow(f"not done after {SLOWEST_S:g} s")


def _of_status(key: str) -> int:
    """Bytes of one of the kernel's counts of this process's memory."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) << 10


def row(name: str, tally: Tally) -> dict:
    return {"target": name, "cases": tally.cases, "refused": tally.refused, "accepted": tally.accepted,
            "seconds": f"{tally.seconds:.1f}", "worst ms": f"{tally.worst_ms:.0f}", "case": tally.worst,
            "peak MB": f"{tally.peak_mb:.0f}"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=positive, default=100_000, help="of each target (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET",
                        help=", ".join(TARGETS))
    parser.add_argument("--seed", type=natural, default=0, help="default: %(default)s")
    parser.add_argument("--first", type=natural, default=0, help="number of the first case (default: %(default)s)")
    args = parser.parse_args(argv)
    rows, offences = [], []
    for name in args.only:
        try:
            rows.append(row(name, guarded_attack(name, range(args.first, args.first + args.cases), args.seed)))
            print(aligned(rows[-1:]).splitlines()[1], flush=True)
        except Offence as error:
            offences.append(str(error))
            print(f"OFFENCE: {error}", flush=True)
    print(aligned(rows))
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
