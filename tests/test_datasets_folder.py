"""A user's own folder of pictures: which answers its sub-folders tell, what a network gets of it, what is said if not."""

import numpy as np
import pytest
import torch
from PIL import Image

from spic.datasets import imagenet
from spic.datasets.folder import Unlabelled, open_folder
from spic.datasets.images import Preparation
from spic.datasets.pictures import UnreadableImage
from spic.errors import SpicError

SMALL = Preparation(20, 16)


def fill(root, folders, per_folder=2):
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for place in range(per_folder):
            pixels = np.random.default_rng([number, place]).integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{place}.png")
    return root


@pytest.mark.parametrize("sub", ["", "val"])
def test_wordnet_ids_label_for_a_network_of_1000_classes(tmp_path, sub):
    fill(tmp_path / sub, ["n03000684", "n01440764"])
    data = open_folder(tmp_path, SMALL, 1000)
    assert data.labelled and data.labels == [0, 0, 491, 491] and len(data.class_names) == 1000
    assert (data.class_names[0], data.class_names[491]) == ("tench", "chain saw")
    image, label = data[2]
    assert image.shape == (3, *data.image_size) == (3, 16, 16) and label == 491


def test_exactly_as_many_folders_as_classes_label_in_sorted_order(tmp_path):
    data = open_folder(fill(tmp_path, ["wolf", "ant", "red_fox"]), SMALL, 3)
    assert data.labelled and data.labels == [0, 0, 1, 1, 2, 2] and data.class_names == ("ant", "red fox", "wolf")
    assert data.num_classes == 3


@pytest.mark.parametrize("folders, classes", [(["a", "b"], 3), (["n01440764", "n03000684"], 10), (["a", "b"], 1000)])
def test_otherwise_pictures_are_unlabelled_and_a_note_says_so(tmp_path, capsys, folders, classes):
    data = open_folder(fill(tmp_path, folders), SMALL, classes)
    assert not data.labelled and data.class_names is None and len(data) == 4 and data.label(0) is None
    assert f"has 2 sub-folders and the network {classes} classes" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [None, 2])
def test_a_flat_folder_is_unlabelled_without_a_note(tmp_path, capsys, classes):
    data = open_folder(fill(tmp_path, ["."]), SMALL, classes)
    assert not data.labelled and len(data) == 2 and capsys.readouterr().err == ""


def test_a_network_that_does_not_classify_takes_class_folders_unlabelled(tmp_path, capsys):
    assert not open_folder(fill(tmp_path, ["a", "b"]), SMALL, None).labelled and capsys.readouterr().err == ""


@pytest.mark.parametrize("folders, classes", [(["."], None), (["a", "b"], 2)])
def test_items_are_network_inputs_made_from_pixels(tmp_path, folders, classes):
    data = open_folder(fill(tmp_path, folders), SMALL, classes)
    item = data[1] if classes is None else data[1][0]
    assert data.pixels(1).shape == (16, 16, 3) and data.pixels(1).dtype == np.uint8
    assert torch.equal(item, SMALL.normalise(data.pixels(1)))


def test_a_limit_is_an_even_subset_in_order_of_paths(tmp_path):
    data = Unlabelled(fill(tmp_path, ["b", "a", "c"]), imagenet.PREPARATION, limit=3)
    assert [str(path.relative_to(tmp_path)) for path in data.paths] == ["a/0.png", "b/0.png", "c/0.png"]


@pytest.mark.parametrize("make, words", [(lambda root: root / "absent", "no such folder"),
                                         (lambda root: root, "holds no picture")])
def test_a_folder_without_pictures_is_one_line(tmp_path, make, words):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SpicError, match=words):
        open_folder(make(tmp_path), SMALL, 10)


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    fill(tmp_path, ["."])
    (tmp_path / "1.png").write_bytes(b"x")
    with pytest.raises(UnreadableImage, match="1.png"):
        open_folder(tmp_path, SMALL, None)[1]
