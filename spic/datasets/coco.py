"""COCO 2017 as semantic segmentation, as published: 21 VOC classes, pictures scaled and cropped to 513 x 513."""
from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import Dataset
from tqdm import tqdm

from spic.datasets import names
from spic.datasets.images import Preparation, evenly_spread
from spic.datasets.pictures import FLOAT64, UnreadableImage, check_size, read_rgb
from spic.errors import SpicError, reason
from spic.files import cache_root, make_folder, write_whole

# Shorter side to 513 (the longer one rounded down), then the centre 513 x 513.
PREPARATION = Preparation(513, 513, rounding=FLOAT64)
# Background, then the 20 VOC classes by their COCO category ids, in VOC order.
VOC_CATEGORIES = (0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
LEAST_LABELLED_PIXELS = 1000
# An outline is drawn in points, five to a pixel of its length, 24 bytes each: real ones are below 20,000 pixels long.
LONGEST_OUTLINE = 1_000_000
LONGEST_NAME = 1000  # longer ones are no paths, and errors name them


def prepare_mask(mask: Image.Image) -> torch.Tensor:
    """Class numbers at the picture's size, scaled and cropped with it: int64 [513, 513]."""
    return torch.from_numpy(np.array(PREPARATION.geometry(mask, "nearest"), dtype=np.int64))


def evaluation_transform(image: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    """Image float32 [3, 513, 513] and mask int64 [513, 513]."""
    return PREPARATION(image), prepare_mask(mask)


class CocoSegmentation(Dataset):
    """Pictures with more than 1000 labelled pixels: items are `transform(image, mask)`, both PIL images before it.

    `categories[c]` is the COCO category id of class c; other categories are background. `ids` and `paths` list the
    items in the order of the annotation file.
    """

    labelled = True
    preparation = PREPARATION
    image_size = PREPARATION.image_size

    def __init__(self, image_folder: Path, annotation_file: Path, categories: Sequence[int] = VOC_CATEGORIES,
                 limit: int | None = None, transform: Callable = evaluation_transform):
        self.num_classes = len(categories)
        self.transform = transform
        self._class_of = {category: number for number, category in enumerate(categories)}
        self._coco, digest = _read_annotations(annotation_file)
        self.class_names = self._names(categories)
        self.ids = evenly_spread(self._qualifying_images(digest), limit)
        if not self.ids:
            raise SpicError(f"{annotation_file} labels no image with more than {LEAST_LABELLED_PIXELS} pixels of the "
                            f"{self.num_classes - 1} classes")
        self.paths = [str(image_folder / self._coco.imgs[number]["file_name"]) for number in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int):
        image, mask = read_rgb(self.paths[index]), Image.fromarray(self.class_mask(self.ids[index]))
        if image.size != mask.size:
            raise UnreadableImage(f"{self.paths[index]} is {image.size[0]}x{image.size[1]} pixels, but its annotation "
                                  f"says {mask.size[0]}x{mask.size[1]}; image and annotation file do not match")
        return self.transform(image, mask)

    def pixels(self, index: int) -> np.ndarray:
        """The network's input before normalisation: uint8 [513, 513, 3]."""
        return PREPARATION.pixels(read_rgb(self.paths[index]))

    def label(self, index: int) -> torch.Tensor:
        """int64 [513, 513]."""
        return prepare_mask(Image.fromarray(self.class_mask(self.ids[index])))

    def class_mask(self, image_id: int) -> np.ndarray:
        """uint8 [H, W] class numbers; where instances overlap, the one annotated first keeps its pixels."""
        record = self._coco.imgs[image_id]
        mask = np.zeros((record["height"], record["width"]), dtype=np.uint8)
        for instance in self._coco.imgToAnns[image_id]:
            number = self._class_of.get(instance["category_id"], 0)
            if number:
                mask[(mask == 0) & self._instance_mask(instance)] = number
        return mask

    def _instance_mask(self, instance: dict) -> np.ndarray:
        """bool [H, W]. Nothing reaches pycocotools unchecked: it is C, and believes what it is given."""
        record, code = self._coco.imgs[instance["image_id"]], instance["segmentation"]
        try:
            if isinstance(code, dict):
                return _run_length_mask(code, record["height"], record["width"])
            _check_polygons(code, record["height"], record["width"])
            return self._coco.annToMask(instance).astype(bool)
        except Exception as error:  # pycocotools raises bare Exception, among others
            raise UnreadableImage(f"annotation {instance.get('id')} of image {instance['image_id']} is no valid polygon or "
                                  f"run-length mask ({reason(error)}); get the annotation file again") from error

    def _names(self, categories: Sequence[int]) -> tuple[str, ...]:
        """VOC's names for its categories, else those that the annotation file gives."""
        if tuple(categories) == VOC_CATEGORIES:
            return names.VOC
        given = {number: str(category.get("name", number)) for number, category in self._coco.cats.items()}
        return names.readable(["background", *(given.get(number, f"category {number}") for number in categories[1:])])

    def _qualifying_images(self, digest: str) -> list[int]:
        """The ids of all images with enough labelled pixels; found once per annotation file and category list."""
        key = hashlib.sha256(f"{digest} {list(self._class_of)} {LEAST_LABELLED_PIXELS}".encode()).hexdigest()
        path = cache_root() / "coco" / f"{key}.json"
        known = self._read_list(path)
        if known is not None:
            return known
        ids = [number for number in tqdm(self._coco.imgs, "looking for labelled images", unit="image")
               if np.count_nonzero(self.class_mask(number)) > LEAST_LABELLED_PIXELS]
        try:
            make_folder(path.parent)
            write_whole(path, json.dumps({"images": ids, "count": len(ids)}).encode())
        except SpicError as error:
            print(f"note: the list of labelled images is not kept: {error}", file=sys.stderr)
        return ids

    def _read_list(self, path: Path) -> list[int] | None:
        """The stored list, or None if there is none or it is damaged."""
        try:
            stored = json.loads(path.read_bytes())
            ids = stored["images"]
            return ids if len(ids) == stored["count"] and all(number in self._coco.imgs for number in ids) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None


def _read_annotations(path: Path) -> tuple[COCO, str]:
    """pycocotools' index of the file, and the file's SHA-256."""
    coco = COCO()
    try:
        data = path.read_bytes()
        coco.dataset = json.loads(data)
        if not isinstance(coco.dataset, dict):
            raise TypeError("not a JSON object")
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        _check_records(coco)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {reason(error)}"
        raise SpicError(f"{path} is no COCO annotation file ({why}); get it again") from error
    for record in coco.imgs.values():
        check_size(f"image {record['id']} in {path}", record["width"], record["height"])
    return coco, hashlib.sha256(data).hexdigest()


def _check_records(coco: COCO) -> None:
    """Refuse records that would break later."""
    for record in coco.imgs.values():
        if type(record["file_name"]) is not str or not _are_whole(record["id"], record["height"], record["width"]):
            raise ValueError(f"image {record['id']!r:.40} needs a file_name, and whole numbers as id, height and width")
        if len(record["file_name"]) > LONGEST_NAME:
            raise ValueError(f"image {record['id']} has a file_name of more than {LONGEST_NAME} characters")
        if min(record["height"], record["width"]) < 1:
            raise ValueError(f"image {record['id']} has no sensible size: {record['width']}x{record['height']}")
    for instance in coco.anns.values():
        if "segmentation" not in instance or not _are_whole(instance["image_id"], instance["category_id"]):
            raise ValueError(f"annotation {instance['id']!r:.40} needs a segmentation, and whole numbers as image_id and "
                             "category_id")


def _are_whole(*values) -> bool:
    """JSON's whole numbers; true and 1.0 are none."""
    return all(type(value) is int for value in values)


def _run_length_mask(code: dict, height: int, width: int) -> np.ndarray:
    """bool [H, W] from the lengths of runs of 0 and 1 in turn, column by column, as a list or as COCO's text."""
    runs = _run_lengths(code["counts"]) if isinstance(code["counts"], str) else list(code["counts"])
    if list(code["size"]) != [height, width] or not _are_whole(*runs) or min(runs, default=-1) < 0:
        raise ValueError("run lengths of another size than the image, or that are no whole numbers")
    if sum(runs) != height * width:
        raise ValueError(f"run lengths for {sum(runs)} pixels of {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width, order="F")


def _run_lengths(text: str) -> list[int]:
    """COCO's compressed run lengths: digits of 5 bits from the lowest on, as characters from "0" on.

    Bit 6 of a digit says that another follows, bit 5 of the last one is the sign. From the fourth number on, a number is
    the difference to the run before last.
    """
    runs, value, shift = [], 0, 0
    for character in text:
        digit = ord(character) - ord("0")
        if not 0 <= digit < 64 or shift > 30:
            raise ValueError("not a text of run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if digit < 32:
            value -= (digit & 16) << shift - 4
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("run lengths end in the middle of a number")
    return runs


def _check_polygons(polygons, height: int, width: int) -> None:
    """Lists of x1, y1, x2, y2 ...: finite, not farther outside than the picture is large, and of bounded length."""
    if not isinstance(polygons, list) or not polygons:
        raise ValueError("no list of polygons")
    for polygon in polygons:
        if len(polygon) < 4 or len(polygon) % 2 or not all(type(value) in (int, float) for value in polygon):
            raise ValueError("a polygon is a list of at least 4 numbers, x and y in turn")
        corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        size = np.array([width, height])
        if not (np.isfinite(corners).all() and (corners >= -size).all() and (corners <= 2 * size).all()):
            raise ValueError(f"a polygon far outside of the {width}x{height} pixels")
        if np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum() > LONGEST_OUTLINE:
            raise ValueError(f"an outline longer than {LONGEST_OUTLINE} pixels")


def open(valdir: str | os.PathLike, limit: int | None = None, categories: Sequence[int] = VOC_CATEGORIES,
         split: str = "val") -> CocoSegmentation:
    """COCO in `valdir`: `<split>2017/` or `images/<split>2017/`, and `annotations/instances_<split>2017.json`."""
    root = Path(valdir)
    annotation_file = root / "annotations" / f"instances_{split}2017.json"
    folders = [root / f"{split}2017", root / "images" / f"{split}2017"]
    image_folder = next((folder for folder in folders if folder.is_dir()), None)
    if not root.is_dir():
        raise SpicError(f"the data folder {root} does not exist")
    if image_folder is None:
        raise SpicError(f"no pictures in {root}: expected {folders[0].name}/ or images/{folders[0].name}/ there")
    if not annotation_file.is_file():
        raise SpicError(f"no annotations in {root}: expected {annotation_file.relative_to(root)} there "
                        "(annotations_trainval2017.zip of cocodataset.org)")
    return CocoSegmentation(image_folder, annotation_file, categories, limit)
