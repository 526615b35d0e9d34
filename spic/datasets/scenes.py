"""The embedded benchmark: pictures of 20 shapes in 5 textures, drawn by a seeded generator and written as files.

    python -m spic.datasets.scenes --task classification --split train --count 20000

Classification is an ImageNet-style folder (`<split>/<shape>_<texture>/<index>.jpg`), segmentation a COCO one
(`<split>2017/`, `annotations/instances_<split>2017.json`); the loaders of `imagenet` and `coco` read them.
Each picture depends on (seed, task, split, index) alone, so parallel and resumed runs write the same files.
"""
from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image
from tqdm import tqdm

from spic.cli import guarded, natural, positive
from spic.datasets import coco, drawing, imagenet
from spic.datasets.shapes import SHAPES
from spic.errors import SpicError
from spic.files import cache_root, check_disk_space, exclusive, make_folder, write_whole

SHAPE_NAMES = tuple(SHAPES)
CLASSES = tuple(f"{shape}_{texture}" for shape in SHAPES for texture in drawing.TEXTURES)  # already in sorted order
CATEGORIES = tuple(range(len(SHAPES) + 1))  # COCO category ids of the segmentation classes; 0 is the background
JPEG_QUALITY = 93


@dataclass(frozen=True)
class Instance:
    """One object of a segmentation picture. `polygon` [N, 2] in pixels; what lies in front of it is not cut out."""
    category: int
    polygon: np.ndarray


# ---- drawing ---------------------------------------------------------------------------------------------------

def _generator(seed: int, task: str, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{task}/{split}".encode()), index])


def _occlude(rng: np.random.Generator, canvas: np.ndarray, centre: np.ndarray, extent: float) -> None:
    """Up to two blobs over the rim of the object: they hide a part of it, never its middle."""
    for _ in range(rng.integers(0, 3)):
        angle = rng.uniform(0, 2 * np.pi)
        rim = centre + extent * rng.uniform(0.4, 0.6) * np.array([np.cos(angle), np.sin(angle)])
        drawing.paint_blob(rng, canvas, rim, extent * rng.uniform(0.1, 0.2))


def draw_classification(seed: int, split: str, index: int) -> tuple[np.ndarray, int]:
    """Picture `index`: uint8 [H, W, 3] with a shorter side of 256, and its class, `index` modulo 100."""
    rng = _generator(seed, "classification", split, index)
    label = index % len(CLASSES)
    shape, texture = CLASSES[label].rsplit("_", 1)
    longer = round(256 * rng.choice([1, 4 / 3, 3 / 2]))
    height, width = (256, longer) if rng.random() < 0.7 else (longer, 256)
    canvas = drawing.background(rng, height, width, clutter=int(rng.integers(3, 10)))
    extent = 224 * rng.uniform(0.38, 0.8)
    # The centre crop of 224 pixels shows the object whole, or nearly so.
    room = max(0.0, 112 - extent / 2) + 8
    centre = np.array([width, height]) / 2 + rng.uniform(-room, room, 2)
    view = drawing.place(drawing.random_view(rng, np.pi / 4), SHAPES[shape], extent, centre)
    look = drawing.Look(texture, contrast=rng.uniform(28, 60), shadow=rng.random() < 0.6)
    drawing.paint_object(rng, canvas, view, SHAPES[shape], look)
    _occlude(rng, canvas, centre, extent)
    drawing.light(rng, canvas)
    return drawing.photograph(rng, canvas), label


@dataclass(frozen=True)
class _Placed:
    shape: str
    view: np.ndarray
    look: drawing.Look


def _layout(rng: np.random.Generator, height: int, width: int) -> list[_Placed]:
    """2 to 6 objects, front first, each inside the picture and at least 45 % of it in sight."""
    taken = np.zeros((height, width), bool)
    placed: list[_Placed] = []
    wanted = rng.integers(2, 7)
    for _ in range(30):
        shape = SHAPE_NAMES[rng.integers(len(SHAPE_NAMES))]
        extent = min(height, width) * rng.uniform(0.2, 0.6)
        centre = rng.uniform([extent / 2] * 2, [width - extent / 2, height - extent / 2])
        view = drawing.place(drawing.random_view(rng, np.pi / 4), SHAPES[shape], extent, centre)
        texture = tuple(drawing.TEXTURES)[rng.integers(len(drawing.TEXTURES))]
        look = drawing.Look(texture, contrast=rng.uniform(28, 60), shadow=rng.random() < 0.6)
        window = drawing.Window.of(drawing.project(view, SHAPES[shape]), height, width)
        cover = window.alpha > 0.5
        behind = taken[window.rows, window.columns]
        if (cover & ~behind).sum() >= 0.45 * cover.sum():
            behind |= cover
            placed.append(_Placed(shape, view, look))
        if len(placed) == wanted:
            break
    return placed


def _segmentation_plan(seed: int, split: str, index: int):
    """The generator after the layout was drawn, the canvas size, and the objects, front first."""
    rng = _generator(seed, "segmentation", split, index)
    height, width = (480, 640) if rng.random() < 0.75 else (640, 480)
    return rng, height, width, _layout(rng, height, width)


def _instances(placed: list[_Placed]) -> list[Instance]:
    return [Instance(1 + SHAPE_NAMES.index(item.shape), drawing.project(item.view, SHAPES[item.shape]))
            for item in placed]


def draw_segmentation(seed: int, split: str, index: int) -> tuple[np.ndarray, list[Instance]]:
    """Picture `index`: uint8 [480, 640, 3] or [640, 480, 3], and its objects, the foremost first."""
    rng, height, width, placed = _segmentation_plan(seed, split, index)
    canvas = drawing.background(rng, height, width, clutter=int(rng.integers(4, 14)))
    for item in reversed(placed):
        drawing.paint_object(rng, canvas, item.view, SHAPES[item.shape], item.look)
    drawing.light(rng, canvas)
    return drawing.photograph(rng, canvas), _instances(placed)


# ---- files -----------------------------------------------------------------------------------------------------

def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _classification_name(split: str, index: int) -> str:
    return f"{split}/{CLASSES[index % len(CLASSES)]}/{index:06d}.jpg"


def _segmentation_name(split: str, index: int) -> str:
    return f"{split}2017/{index + 1:012d}.jpg"


def _annotations(split: str, count: int, seed: int) -> bytes:
    """The COCO annotation file, from the layouts alone: nothing is painted."""
    images, annotations = [], []
    for index in range(count):
        _, height, width, placed = _segmentation_plan(seed, split, index)
        images.append({"id": index + 1, "file_name": Path(_segmentation_name(split, index)).name,
                       "height": height, "width": width})
        for instance in _instances(placed):
            annotations.append(_annotation(len(annotations) + 1, index + 1, instance))
    categories = [{"id": number, "name": name} for number, name in enumerate(SHAPE_NAMES, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def _annotation(number: int, image_id: int, instance: Instance) -> dict:
    polygon = instance.polygon.round(2)
    (left, top), (right, bottom) = polygon.min(axis=0).tolist(), polygon.max(axis=0).tolist()
    x, y = polygon.T
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return {"id": number, "image_id": image_id, "category_id": instance.category, "iscrowd": 0,
            "segmentation": [polygon.ravel().tolist()], "area": round(area, 2),
            "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)]}


def _write_classification_extras(folder: Path, split: str, count: int, seed: int) -> None:
    """An ImageNet-style folder needs nothing beside its pictures."""


def _write_segmentation_extras(folder: Path, split: str, count: int, seed: int) -> None:
    make_folder(folder / "annotations")
    write_whole(folder / "annotations" / f"instances_{split}2017.json", _annotations(split, count, seed))


@dataclass(frozen=True)
class _Task:
    version: int  # raise it whenever a pixel may change: old files are then left alone and new ones drawn
    draw: Callable
    name: Callable
    write_extras: Callable
    open: Callable
    classes: tuple
    validation_count: int
    bytes_per_picture: int  # measured, rounded up


_TASKS = {
    "classification": _Task(1, draw_classification, _classification_name, _write_classification_extras,
                            imagenet.open, CLASSES, 1000, 60_000),
    "segmentation": _Task(1, draw_segmentation, _segmentation_name, _write_segmentation_extras,
                          coco.open, CATEGORIES, 200, 220_000),
}
TASKS = tuple(_TASKS)


def _write_picture(folder: Path, task: str, split: str, seed: int, index: int) -> tuple[bytes, int]:
    """Draw and write one picture unless a former run did; its SHA-256 and size."""
    path = folder / _TASKS[task].name(split, index)
    if not path.exists():
        make_folder(path.parent)
        write_whole(path, _jpeg(_TASKS[task].draw(seed, split, index)[0]))
    data = path.read_bytes()
    return hashlib.sha256(data).digest(), len(data)


def _start_worker(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end soon after it was killed: the queue alone would keep a worker for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_pictures(folder: Path, task: str, split: str, count: int, seed: int, workers: int) -> tuple[str, int]:
    """All pictures, in parallel with a progress bar; the SHA-256 over theirs, and their bytes together."""
    write = partial(_write_picture, folder, task, split, seed)
    digest, total = hashlib.sha256(), 0
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start_worker, (os.getpid(),)) as pool:
        written = pool.map(write, range(count), chunksize=4)
        for picture_digest, size in tqdm(written, f"drawing scenes ({task}, {split})", count, unit="picture"):
            digest.update(picture_digest)
            total += size
    return digest.hexdigest(), total


def _is_complete(folder: Path, count: int) -> bool:
    """Whether the folder's marker is there and its pictures still are as many and as large as the marker says."""
    try:
        marker = json.loads((folder / "complete.json").read_text())
        sizes = [path.stat().st_size for path in folder.rglob("*.jpg")]
        return (len(sizes), sum(sizes)) == (count, marker["bytes"]) == (marker["count"], marker["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _generate(folder: Path, task: str, split: str, count: int, seed: int, workers: int) -> None:
    """Fill `folder`'s unfinished twin, resuming where a former run stopped, then give it the final name."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    if folder.exists():  # pictures were deleted or altered: draw what is missing
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(folder)
    make_folder(unfinished)
    done = sum(1 for _ in unfinished.rglob("*.jpg"))
    check_disk_space(unfinished, (count - done) * _TASKS[task].bytes_per_picture, f"drawing {count} scenes")
    try:
        digest, total = _write_pictures(unfinished, task, split, count, seed, workers)
    except BrokenProcessPool as error:
        raise SpicError(f"drawing scenes into {folder} was cut off (out of memory?); run it again to resume") from error
    _TASKS[task].write_extras(unfinished, split, count, seed)
    marker = {"version": _TASKS[task].version, "task": task, "split": split, "seed": seed, "count": count, "bytes": total,
              "sha256": digest}
    write_whole(unfinished / "complete.json", json.dumps(marker, indent=1).encode())
    os.replace(unfinished, folder)


def ensure_scenes(task: str, split: str = "val", count: int | None = None, seed: int = 0,
                  root: Path | str | None = None, workers: int | None = None) -> Path:
    """The folder of the asked set, drawn first if it is not there yet (`count`: 1000 and 200 pictures if not given).

    Two processes asking for the same set: one draws, the other waits. An interrupted run is resumed.
    """
    if task not in _TASKS:
        raise SpicError(f"unknown scenes task {task!r}; choose from {', '.join(_TASKS)}")
    count = _TASKS[task].validation_count if count is None else count
    if count < 1:
        raise SpicError(f"a scenes set needs at least one picture, not {count}")
    root = Path(root) if root else cache_root()
    folder = root / f"scenes-v{_TASKS[task].version}-seed{seed}-{task}-{split}-{count}"
    if not _is_complete(folder, count):
        with exclusive(root / f"{folder.name}.lock"):
            if not _is_complete(folder, count):
                _generate(folder, task, split, count, seed, workers or _available_cores())
    return folder


def open(task: str, split: str = "val", limit: int | None = None, count: int | None = None, seed: int = 0):
    """The set as a data set of `imagenet` or `coco`, drawn first if need be."""
    folder = ensure_scenes(task, split, count, seed)
    return _TASKS[task].open(folder, limit, _TASKS[task].classes, split)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m spic.datasets.scenes", description="Draw a set of scenes.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--split", choices=("train", "val"), default="val")
    parser.add_argument("--count", type=positive, help="pictures; None: the size of the validation set")
    parser.add_argument("--root", help="folder to write into; None: the cache folder")
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--workers", type=positive, help="processes; None: one per core")
    args = parser.parse_args(argv)
    return guarded(lambda: print(ensure_scenes(**vars(args))))


if __name__ == "__main__":
    sys.exit(main())
