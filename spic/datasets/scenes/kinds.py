"""The two kinds of sets and their files: an ImageNet-style folder, and a COCO one with its annotations."""
from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spic.datasets import coco, imagenet
from spic.datasets.scenes import compose
from spic.datasets.scenes.compose import CLASSES, SHAPE_NAMES, Instance

CATEGORIES = tuple(range(len(SHAPE_NAMES) + 1))  # COCO category ids of the segmentation classes; 0 is the background
JPEG_QUALITY = 93


@dataclass(frozen=True)
class Kind:
    """Sets of one task. ``name(split, index)``: the path of a picture in its folder; ``extras(split)``: path → what writes
    that file's bytes from (split, count, seed), for the files beside the pictures.
    """

    version: int  # raise it whenever a pixel may change: old files are then left alone and new ones drawn
    draw: Callable
    name: Callable[[str, int], str]
    extras: Callable[[str], dict[str, Callable]]
    open: Callable
    classes: tuple
    validation_count: int
    bytes_per_picture: int  # measured, rounded up

    def jpeg(self, seed: int, split: str, index: int) -> bytes:
        """Picture ``index`` as a file."""
        buffer = io.BytesIO()
        Image.fromarray(self.draw(seed, split, index)[0]).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()


def _classification_name(split: str, index: int) -> str:
    return f"{split}/{CLASSES[index % len(CLASSES)]}/{index:06d}.jpg"


def _segmentation_name(split: str, index: int) -> str:
    return f"{split}2017/{index + 1:012d}.jpg"


def _annotations(split: str, count: int, seed: int) -> bytes:
    """The COCO annotation file, from the layouts alone: nothing is painted."""
    images, annotations = [], []
    for index in range(count):
        height, width, instances = compose.plan_segmentation(seed, split, index)
        images.append({"id": index + 1, "file_name": Path(_segmentation_name(split, index)).name,
                       "height": height, "width": width})
        for instance in instances:
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


KINDS = {
    "classification": Kind(1, compose.draw_classification, _classification_name, lambda split: {},
                           imagenet.open, CLASSES, 1000, 60_000),
    "segmentation": Kind(1, compose.draw_segmentation, _segmentation_name,
                         lambda split: {f"annotations/instances_{split}2017.json": _annotations},
                         coco.open, CATEGORIES, 200, 220_000),
}
