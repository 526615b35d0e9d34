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

from spic.datasets import coco, names
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
                                    "text", None, 5, [], [[]], [[True] * 8], [["1"] * 8], {"size": [HEIGHT, WIDTH]},
                                    {"size": [HEIGHT, WIDTH], "counts": [5000, -200]},
                                    {"size": [HEIGHT, WIDTH], "counts": [4800.0]},
                                    {"size": [HEIGHT, WIDTH], "counts": None}])
def test_a_broken_mask_is_refused_by_name(tmp_path, broken):
    with pytest.raises(SpicError, match="annotation 10 of image 1"):
        coco.open(write_coco(tmp_path / "coco", {1: [(5, broken)]}))


@pytest.mark.parametrize("counts", ["", "zzzz", "0", "h", "\u00e9", "PPPPPPPPPP", "0" * 4000,
                                    compressed(inside(*FRONT))["counts"][:-1], compressed(inside(*FRONT))["counts"] + "1"])
def test_compressed_run_lengths_that_do_not_fill_the_image_are_refused(tmp_path, counts):
    with pytest.raises(SpicError, match="annotation 10 of image 1 is no valid .*run"):
        coco.open(write_coco(tmp_path / "coco", {1: [(5, {"size": [HEIGHT, WIDTH], "counts": counts})]}))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 30), st.booleans())
def test_run_lengths_are_read_as_pycocotools_writes_them(runs, height, first):
    flat = np.repeat((np.arange(len(runs)) + first) % 2, runs)
    mask = flat[:len(flat) // height * height].reshape(height, -1, order="F") if len(flat) >= height else flat[:, None]
    for code in (compressed(mask), uncompressed(mask)):
        assert np.array_equal(coco._run_length_mask(code, *mask.shape), mask.astype(bool))


@pytest.fixture
def undrawn(monkeypatch):
    """No mask is made of a polygon."""
    monkeypatch.setattr(coco.COCO, "annToMask", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr(coco.COCO, "annToRLE", lambda *_: pytest.fail("drawn"))


def far(value):
    return [[value, 10, 40, 10, 40, 30, 10, 30]]


@pytest.mark.parametrize("polygon", [far(1e308), far(-1e308), far(1e6), far(-1e4), far(float("inf")), far(float("nan")),
                                     far(10 ** 400), [[0, 0, 80, 60] * 10_000]])
def test_polygons_far_outside_or_endless_are_refused_before_they_are_drawn(tmp_path, undrawn, polygon):
    root = write_coco(tmp_path / "coco", {1: [(5, polygon)]})
    with pytest.raises(SpicError, match="annotation 10 of image 1 is no valid polygon") as caught:
        coco.open(root)
    assert "\n" not in str(caught.value)


def test_polygons_a_little_outside_are_cut_at_the_rim(tmp_path):
    root = write_coco(tmp_path / "coco", {1: [(5, box(-20, -10, 100, 70))]})
    assert (coco.open(root).class_mask(1) == 1).all()


def change_record(root, **changes):
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["images"][0].update(changes)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("changes", [{"height": -60}, {"height": -60, "width": -80}, {"height": 60.0}, {"height": True},
                                     {"width": "80"}, {"height": None}, {"height": 0}, {"width": float("nan")},
                                     {"file_name": 5}, {"id": 1.5}])
def test_sizes_that_are_no_whole_numbers_above_0_are_refused(root, changes):
    change_record(root, **changes)
    with pytest.raises(SpicError, match="no COCO annotation file.*image .*(sensible size|whole numbers)") as caught:
        coco.open(root)
    assert "\n" not in str(caught.value)


def test_category_and_image_numbers_are_checked(root):
    path = root / "annotations" / "instances_val2017.json"
    text = path.read_text()
    for field in ("category_id", "image_id"):
        path.write_text(text.replace(f'"{field}": 5' if field == "category_id" else f'"{field}": 7', f'"{field}": 7.5'))
        with pytest.raises(SpicError, match="annotation .* needs a segmentation, and whole numbers"):
            coco.open(root)


@pytest.mark.parametrize("size, words", [((1, 2000), "is 2000x1 pixels, and a picture may be at most 50 times"),
                                         ((60_000, 2), "is 2x60000 pixels"),
                                         ((30_000, 30_000), "is 30000x30000 pixels, and a picture may have 1 to 67108864")])
def test_extreme_shapes_are_refused_before_any_work(root, undrawn, size, words):
    change_record(root, height=size[0], width=size[1])
    with pytest.raises(SpicError, match=f"image 7 in .*instances_val2017.json {words}"):
        coco.open(root)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ' + "[" * 100_000, '{"a":' * 100_000])
def test_deeply_nested_json_is_refused(root, text):
    (root / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(SpicError, match="no COCO annotation file") as caught:
        coco.open(root)
    assert "\n" not in str(caught.value)


def test_a_deeply_nested_cached_list_is_made_anew(root, cache):
    coco.open(root)
    path, = cache.rglob("*.json")
    path.write_text("[" * 100_000)
    assert coco.open(root).ids == [7, 9]


def test_classes_are_called_as_in_voc_or_as_the_annotations_say(root):
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"categories": []', '"categories": [{"id": 13, "name": "stop_sign"}]'))
    assert coco.open(root).class_names == names.VOC
    assert coco.open(root, categories=(0, 13, 16)).class_names == ("background", "stop sign", "category 16")


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
