"""Names and colours: as many as classes, and the usual ones."""

import pytest

from spic.datasets import camvid, coco, imagenet, names, scenes


def test_imagenets_names_are_in_the_order_of_the_wordnet_ids():
    assert len(names.imagenet()) == len(names.WORDNET_IDS) == 1000
    assert names.readable(["n01440764", "n03000684", "n03888257"]) == ("tench", "chain saw", "parachute")


def test_imagenettes_names():
    assert names.readable(imagenet.IMAGENETTE_CLASSES) == (
        "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck", "gas pump",
        "golf ball", "parachute")


def test_scenes_names():
    assert names.readable(scenes.CLASSES)[:2] == ("arrow checked", "arrow dotted") and "half disc plain" in \
        names.readable(scenes.CLASSES)


def test_vocs_names_stand_in_the_order_of_the_coco_categories():
    assert len(names.VOC) == len(coco.VOC_CATEGORIES) == 21
    assert [names.VOC[coco.VOC_CATEGORIES.index(number)] for number in (1, 18, 72)] == ["person", "dog", "tv monitor"]


def test_the_palette_of_voc_is_the_usual_one():
    palette = names.voc_palette()
    assert palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert palette[8:10] == ((64, 0, 0), (192, 0, 0)) and palette[15] == (192, 128, 128) and palette[20] == (0, 64, 128)
    assert len(set(names.voc_palette(256))) == 256


@pytest.mark.parametrize("palette, classes", [(names.CAMVID_PALETTE, camvid.CLASSES), (names.voc_palette(), names.VOC)])
def test_each_class_has_a_colour_of_its_own(palette, classes):
    assert len(set(palette)) == len(classes) and all(0 <= value < 256 for colour in palette for value in colour)
