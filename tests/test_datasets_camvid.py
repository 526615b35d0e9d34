"""CamVid as the SegNet tutorial packs it, on a folder of two invented pictures."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from spic.datasets import camvid
from spic.datasets.pictures import UnreadableImage
from spic.errors import SpicError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        for kind, levels, shape in (("test", 256, (360, 480, 3)), ("testannot", 12, (360, 480))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, levels, shape, dtype=np.uint8)).save(tmp_path / kind / f"{name}.png")
    return tmp_path


def test_pictures_come_by_name_with_one_repeated_row_and_column_that_is_not_scored(folder):
    data = camvid.open(folder)
    picture = np.asarray(Image.open(folder / "test" / "a.png"))
    labels = np.asarray(Image.open(folder / "testannot" / "a.png"))
    pixels, (image, target) = data.pixels(0), data[0]
    assert len(data) == 2 and image.shape == (3, *data.image_size) == (3, 361, 481)
    np.testing.assert_array_equal(pixels[:360, :480], picture)
    np.testing.assert_array_equal(pixels[360], pixels[359])
    np.testing.assert_array_equal(pixels[:, 480], pixels[:, 479])
    np.testing.assert_array_equal(target[:360, :480], labels)
    assert (target[360] == camvid.UNSCORED).all() and (target[:, 480] == camvid.UNSCORED).all()


def test_an_input_is_one_more_than_a_multiple_of_the_networks_stride():
    assert [side % 8 for side in camvid.IMAGE_SIZE] == [1, 1]


@pytest.mark.parametrize("kind, size, message", [
    ("test", (481, 360), "is 481x360 pixels"), ("testannot", (480, 361), "is 480x361 pixels"),
    ("testannot", (20_000, 3_000), "is 20000x3000 pixels")])
def test_another_size_is_refused_by_name(folder, kind, size, message):
    Image.new("RGB" if kind == "test" else "L", size).save(folder / kind / "b.png")
    with pytest.raises(UnreadableImage, match=message):
        camvid.open(folder)[1]


def test_a_label_bomb_is_refused_by_its_header_before_it_is_decoded(folder, monkeypatch):
    (folder / "testannot" / "b.png").unlink()
    Image.new("L", (8_000, 8_000)).save(folder / "testannot" / "b.png")
    data = camvid.open(folder)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="b.png is 8000x8000 pixels, CamVid has 480x360"):
        data.label(1)


def test_labels_in_colour_are_refused(folder):
    Image.new("RGB", (480, 360)).save(folder / "testannot" / "b.png")
    with pytest.raises(UnreadableImage, match=r"b.png has shape \(360, 480, 3\)"):
        camvid.open(folder)[1]


def test_any_photo_is_stretched_for_the_street_networks():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 50, 3), dtype=np.uint8))
    assert camvid.PREPARATION(photo).shape == (3, *camvid.PREPARATION.image_size) == (3, 361, 481)
    np.testing.assert_array_equal(camvid.PREPARATION.pixels(photo), np.asarray(photo.resize((481, 361))))


def test_a_picture_without_labels_is_named(folder):
    (folder / "testannot" / "a.png").unlink()
    with pytest.raises(UnreadableImage, match="a.png.*each picture needs one"):
        camvid.open(folder)[0]


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(SpicError, match="no pictures in .*test; expected CamVid"):
        camvid.open(tmp_path)


def test_labels_stay_whole_numbers(folder):
    assert camvid.open(folder)[1][1].dtype == torch.int64
