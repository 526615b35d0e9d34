"""What bench/fuzz.py attacks: each target prepares its undamaged inputs in a folder and returns a case."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from mutations import ARCHIVES, STRANGE, archive, changed_archive, changed_text, changed_tree, changed_word, repacked
from PIL import Image
from torch import nn

from spic.bottleneck import PUBLISHED_PIXELS, make_bottleneck
from spic.coding import fuzz as coding
from spic.coding.engine import CODERS
from spic.datasets.coco import VOC_CATEGORIES, CocoSegmentation
from spic.points import OperatingPoint, load_points, select
from spic.published.checkpoints import _ROLES, read_checkpoint
from spic.published.source import read_files
from spic.record import Record, read_results
from spic.training.checkpoint import Run

Case = Callable[[random.Random], None]


class Offence(AssertionError):
    """A case that is neither refused in one line nor right."""


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
