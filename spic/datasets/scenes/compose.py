"""What is on picture i of a set: its objects, where they lie, and the picture itself, from the seed alone."""
from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from spic.datasets.scenes import drawing
from spic.datasets.scenes.shapes import SHAPES

SHAPE_NAMES = tuple(SHAPES)
CLASSES = tuple(f"{shape}_{texture}" for shape in SHAPES for texture in drawing.TEXTURES)  # already in sorted order


@dataclass(frozen=True)
class Instance:
    """One object of a segmentation picture. `polygon` [N, 2] in pixels; what lies in front of it is not cut out."""
    category: int
    polygon: np.ndarray


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


def plan_segmentation(seed: int, split: str, index: int) -> tuple[int, int, list[Instance]]:
    """Height, width and objects of picture `index`, without painting it."""
    _, height, width, placed = _segmentation_plan(seed, split, index)
    return height, width, _instances(placed)


def draw_segmentation(seed: int, split: str, index: int) -> tuple[np.ndarray, list[Instance]]:
    """Picture `index`: uint8 [480, 640, 3] or [640, 480, 3], and its objects, the foremost first."""
    rng, height, width, placed = _segmentation_plan(seed, split, index)
    canvas = drawing.background(rng, height, width, clutter=int(rng.integers(4, 14)))
    for item in reversed(placed):
        drawing.paint_object(rng, canvas, item.view, SHAPES[item.shape], item.look)
    drawing.light(rng, canvas)
    return drawing.photograph(rng, canvas), _instances(placed)
