"""The embedded benchmark: pictures of 20 shapes in 5 textures, drawn by a seeded generator and written as files.

Classification is an ImageNet-style folder (`<split>/<shape>_<texture>/<index>.jpg`), segmentation a COCO one
(`<split>2017/`, `annotations/instances_<split>2017.json`); the loaders of `imagenet` and `coco` read them.
Each picture depends on (seed, task, split, index) alone, so parallel, resumed and mended sets are the same files.

    shapes  outlines        drawing  how things are painted       compose   what is on picture i
    kinds   a task's files  manifest what was written, to check   sets      the folder on disk
"""
from __future__ import annotations

from spic.datasets.scenes.compose import CLASSES, SHAPE_NAMES, draw_classification, draw_segmentation
from spic.datasets.scenes.kinds import CATEGORIES, KINDS
from spic.datasets.scenes.sets import ensure_scenes

__all__ = ["CATEGORIES", "CLASSES", "SHAPE_NAMES", "TASKS", "draw_classification", "draw_segmentation", "ensure_scenes",
           "open"]

TASKS = tuple(KINDS)


def open(task: str, split: str = "val", limit: int | None = None, count: int | None = None, seed: int = 0):
    """The set as a data set of `imagenet` or `coco`, drawn first if need be."""
    folder = ensure_scenes(task, split, count, seed)
    return KINDS[task].open(folder, limit, KINDS[task].classes, split)
