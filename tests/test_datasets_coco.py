"""COCO as semantic segmentation: masks by hand, the published scaling, the cached list, bad folders."""
from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from spic.datasets import coco
from spic.datasets.loading import batches
from spic.errors import SpicError

SHARED = Path(__file__).parents[1].parent / "shared"
WIDTH, HEIGHT = 80, 60


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def inside(left, top, right, bottom):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def compressed(mask):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


def uncompressed(mask):
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return {"size": list(mask.shape), "counts": counts if not flat[0] else [0, *counts]}


def write_coco(root: Path, instances: dict[int, list[tuple]], images="val2017") -> Path:
    """`instances`: image id → [(category, segmentation)]."""
    (root / images).mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in instances:
        Image.new("RGB", (WIDTH, HEIGHT), (number, 100, 200)).save(root / images / f"{number}.jpg")
    listed = [{"id": 10 * number + place, "image_id": number, "category_id": category, "segmentation": segmentation,
               "iscrowd": int(isinstance(segmentation, dict))}
              for number, items in instances.items() for place, (category, segmentation) in enumerate(items)]
    pictures = [{"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT} for number in instances]
    text = json.dumps({"images": pictures, "annotations": listed, "categories": []})
    (root / "annotations" / "instances_val2017.json").write_text(text)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


FRONT, BACK = (10, 10, 50, 40), (30, 20, 75, 55)


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / "coco", {
        7: [(5, box(*FRONT)), (13, box(0, 0, 9, 9)), (16, box(*BACK))],
        3: [(16, box(0, 0, 31, 32))],   # 992 labelled pixels: too few
        9: [(5, box(0, 0, 40, 40)), (13, box(0, 0, 70, 50))],
    })


def test_an_earlier_instance_keeps_its_pixels_and_other_categories_are_background(root):
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[inside(*BACK)] = 3
    expected[inside(*FRONT)] = 1
    assert np.array_equal(coco.open(root).class_mask(7), expected)


@pytest.mark.parametrize("encode", [compressed, uncompressed])
def test_run_length_masks_count_as_polygons_do(tmp_path, encode):
    root = write_coco(tmp_path / "coco", {1: [(5, encode(inside(*FRONT))), (16, box(*BACK))]})
    assert np.array_equal(coco.open(root).class_mask(1) == 1, inside(*FRONT))


def test_an_instance_of_several_polygons_is_their_union(tmp_path):
    root = write_coco(tmp_path / "coco", {1: [(5, box(*FRONT) + box(*BACK))]})
    assert np.array_equal(coco.open(root).class_mask(1) == 1, inside(*FRONT) | inside(*BACK))


def test_only_images_with_more_than_1000_labelled_pixels_count(root):
    dataset = coco.open(root)
    assert dataset.ids == [7, 9] and len(dataset) == 2
    assert dataset.num_classes == 21 and dataset.image_size == (513, 513)


def test_own_category_lists(root):
    dataset = coco.open(root, categories=(0, 13, 16))
    assert dataset.ids == [7, 9] and dataset.num_classes == 3
    assert set(np.unique(dataset.class_mask(9))) == {0, 1}


def test_items_are_an_image_and_a_mask_of_the_same_crop(root):
    image, mask = coco.open(root)[0]
    assert (image.shape, image.dtype) == ((3, 513, 513), torch.float32)
    assert (mask.shape, mask.dtype) == ((513, 513), torch.int64)
    # 80x60 becomes 684x513; the crop starts at column round(85.5) = 86
    assert mask[300, 100] == 1 and mask[400, 450] == 3 and mask[10, 10] == 0


def test_both_layouts_read_alike(tmp_path, root):
    other = write_coco(tmp_path / "other", {7: [(5, box(*FRONT))]}, images="images/val2017")
    assert coco.open(other).ids == [7]
    assert torch.equal(coco.open(other)[0][0], coco.open(root)[0][0])


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 900), st.integers(20, 900))
def test_every_picture_size_ends_at_513(width, height):
    for mode in ("bilinear", "nearest"):
        assert coco.PREPARATION.geometry(Image.new("L", (width, height)), mode).size == (513, 513)


def test_the_list_is_kept_outside_the_data_and_used_again(root, cache, monkeypatch):
    before = sorted(root.rglob("*"))
    coco.open(root)
    assert sorted(root.rglob("*")) == before and len(list(cache.rglob("*.json"))) == 1
    monkeypatch.setattr(coco.CocoSegmentation, "class_mask", lambda *_: pytest.fail("looked at the masks again"))
    assert coco.open(root).ids == [7, 9]
    assert coco.open(root, limit=1).ids == [7]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"images": [7], "count": 2}', b'{"images": [8], "count": 1}',
                                    b'{"images": 3, "count": 1}', b'{"images": [[]], "count": 1}', b"\xff"])
def test_a_damaged_list_is_made_anew(root, cache, damage):
    coco.open(root)
    path, = cache.rglob("*.json")
    good = path.read_bytes()
    path.write_bytes(damage)
    assert coco.open(root).ids == [7, 9]
    assert path.read_bytes() == good


def test_a_cache_that_cannot_be_written_only_costs_time(root, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "file"))
    assert coco.open(root).ids == [7, 9]
    assert "not kept" in capsys.readouterr().err


@pytest.mark.parametrize("gone, words", [("", "does not exist"), ("val2017", "no pictures"),
                                         ("annotations", "no annotations")])
def test_an_incomplete_folder_says_what_is_missing(root, gone, words):
    os.rename(root / gone, root.parent / "moved")
    with pytest.raises(SpicError, match=words) as caught:
        coco.open(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "{\"images\": [{}]}", "{\"images\": 4, \"annotations\": []}",
                                  '{"images": [{"id": 1, "file_name": "a", "width": 1e9, "height": 9}]}',
                                  '{"annotations": [{"id": 1, "image_id": 1}], "images": []}'])
def test_a_file_that_is_no_annotation_file_is_refused(root, text):
    (root / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(SpicError, match="no COCO annotation file"):
        coco.open(root)


@pytest.mark.parametrize("broken", [[[1, 2]], [["a"] * 8], {"size": [1, 1], "counts": [99]},
                                    {"size": [HEIGHT, WIDTH], "counts": [99]}, {"size": [9, 9], "counts": [81]},
                                    "text", None, 5])
def test_a_broken_mask_is_refused_by_name(tmp_path, broken):
    with pytest.raises(SpicError, match="annotation 10 of image 1"):
        coco.open(write_coco(tmp_path / "coco", {1: [(5, broken)]}))


def test_no_labelled_image_at_all(tmp_path):
    with pytest.raises(SpicError, match="labels no image"):
        coco.open(write_coco(tmp_path / "coco", {1: [(13, box(*BACK))]}))


def test_missing_and_mismatched_pictures_are_named(root):
    (root / "val2017" / "7.jpg").unlink()
    with pytest.raises(SpicError, match="7.jpg"):
        list(batches(coco.open(root), 1, workers=1))
    Image.new("RGB", (30, 30)).save(root / "val2017" / "7.jpg")
    with pytest.raises(SpicError, match="7.jpg is 30x30 pixels"):
        coco.open(root)[0]


def test_nothing_is_printed_by_the_library(root, capsys):
    coco.open(root)
    assert capsys.readouterr().out == ""


def test_real_photos_give_the_values_of_the_published_loader(tmp_path):
    """Known answers: the published coco.py run on the same 79 photos of COCO val2017."""
    archive = SHARED / "data" / "coco-mini.tar"
    if not archive.exists():
        pytest.skip("the 79 COCO photos are not here (../shared/data/coco-mini.tar)")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    dataset = coco.open(next(tmp_path.rglob("annotations")).parent)
    items = [dataset[place] for place in range(len(dataset))]
    pixels = torch.bincount(torch.stack([mask for _, mask in items]).flatten(), minlength=21)
    assert dataset.ids[:3] == [397133, 349860, 217285] and len(items) == 60
    assert pixels.tolist() == [11296757, 34013, 91725, 41824, 65471, 32053, 116017, 65119, 69205, 125567, 1976, 1191324,
                               143211, 21503, 28118, 1763071, 141721, 142046, 112973, 135854, 170592]
    mean = np.mean([image.double().mean().item() for image, _ in items])
    assert mean == pytest.approx(0.036914646, abs=1e-4)  # JPEG decoders differ by a level here and there
