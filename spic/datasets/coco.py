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

from spic.datasets.images import MEAN, STD, UnreadableImage, evenly_spread, read_rgb
from spic.errors import SpicError
from spic.files import cache_root, make_folder, write_whole

CROP = 513
IMAGE_SIZE = (CROP, CROP)
# Background, then the 20 VOC classes by their COCO category ids, in VOC order.
VOC_CATEGORIES = (0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
LEAST_LABELLED_PIXELS = 1000


def scale_and_crop(image: Image.Image, nearest: bool = False) -> Image.Image:
    """Shorter side to 513 (the longer one rounded down), then the centre 513 x 513."""
    width, height = image.size
    shorter = min(width, height)
    size = (int(width * CROP / shorter), int(height * CROP / shorter))
    image = image.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR)
    left, top = (round((side - CROP) / 2) for side in size)
    return image.crop((left, top, left + CROP, top + CROP))


def normalise(image: Image.Image) -> torch.Tensor:
    """float32 [3, H, W]; subtraction and division round from float64, as in the published loader."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    pixels -= np.array(MEAN)
    pixels /= np.array(STD)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def evaluation_transform(image: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    """Image float32 [3, 513, 513] and mask int64 [513, 513]."""
    labels = np.array(scale_and_crop(mask, nearest=True), dtype=np.int64)
    return normalise(scale_and_crop(image)), torch.from_numpy(labels)


class CocoSegmentation(Dataset):
    """Pictures with more than 1000 labelled pixels: items are `transform(image, mask)`, both PIL images before it.

    `categories[c]` is the COCO category id of class c; other categories are background. `ids` and `paths` list the
    items in the order of the annotation file.
    """

    def __init__(self, image_folder: Path, annotation_file: Path, categories: Sequence[int] = VOC_CATEGORIES,
                 limit: int | None = None, transform: Callable = evaluation_transform):
        self.num_classes = len(categories)
        self.image_size = IMAGE_SIZE
        self.transform = transform
        self._class_of = {category: number for number, category in enumerate(categories)}
        self._coco, digest = _read_annotations(annotation_file)
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
        return np.asarray(scale_and_crop(read_rgb(self.paths[index])))

    def label(self, index: int) -> torch.Tensor:
        """int64 [513, 513]."""
        mask = Image.fromarray(self.class_mask(self.ids[index]))
        return torch.from_numpy(np.array(scale_and_crop(mask, nearest=True), dtype=np.int64))

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
        record, code = self._coco.imgs[instance["image_id"]], instance["segmentation"]
        try:
            if isinstance(code, dict):
                _check_run_lengths(code, record["height"], record["width"])
            return self._coco.annToMask(instance).astype(bool)
        except Exception as error:  # pycocotools raises bare Exception, among others
            raise UnreadableImage(f"annotation {instance.get('id')} of image {instance['image_id']} is no valid "
                                  "polygon or run-length mask; get the annotation file again") from error

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
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _read_annotations(path: Path) -> tuple[COCO, str]:
    """pycocotools' index of the file, and the file's SHA-256."""
    data = path.read_bytes()
    coco = COCO()
    try:
        coco.dataset = json.loads(data)
        if not isinstance(coco.dataset, dict):
            raise TypeError("not a JSON object")
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        _check_images(coco)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpicError(f"{path} is no COCO annotation file ({type(error).__name__}: {error}); get it again") from error
    return coco, hashlib.sha256(data).hexdigest()


def _check_images(coco: COCO) -> None:
    """Refuse records that would break later, or take absurd memory."""
    for record in coco.imgs.values():
        if not (isinstance(record["file_name"], str) and 0 < record["height"] * record["width"] < 2 ** 27):
            raise ValueError(f"image {record['id']} has no name or no sensible size")
    if not all({"image_id", "category_id", "segmentation"} <= set(instance) for instance in coco.anns.values()):
        raise ValueError("an annotation lacks image_id, category_id or segmentation")


def _check_run_lengths(code: dict, height: int, width: int) -> None:
    """pycocotools would leave pixels that the runs do not reach undefined, and allocate whatever `size` says."""
    counts = code["counts"]
    if list(code["size"]) != [height, width] or isinstance(counts, list) and sum(counts) != height * width:
        raise ValueError("run lengths of another size than the image")


def open(valdir: str | os.PathLike, limit: int | None = None, categories: Sequence[int] = VOC_CATEGORIES,
         split: str = "val", transform: Callable = evaluation_transform) -> CocoSegmentation:
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
    return CocoSegmentation(image_folder, annotation_file, categories, limit, transform)
