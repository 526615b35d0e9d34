"""ImageNet-style folders: the right class numbers, the published transform, errors that name the file."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spic.datasets import imagenet
from spic.datasets.images import evenly_spread
from spic.datasets.pictures import UnreadableImage, read_rgb
from spic.datasets.loading import batches
from spic.errors import SpicError

SHARED = Path(__file__).parents[1].parent / "shared"
TENCH, CHURN = "n01440764", "n03000684"  # classes 0 and 491


def save_picture(path: Path, size=(300, 260), mode="RGB", seed=0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for name, count in ((TENCH, 3), (CHURN, 5)):
        for number in range(count):
            save_picture(tmp_path / "val" / name / f"{number}.JPEG", seed=number)
    return tmp_path


def test_the_id_list_is_imagenets():
    assert len(set(imagenet.WORDNET_IDS)) == 1000
    assert imagenet.WORDNET_IDS[0] == TENCH and imagenet.WORDNET_IDS[491] == CHURN
    listed = SHARED / "golden" / "imagenet_wnids.txt"
    if not listed.exists():
        pytest.skip("the list to compare with is not here (../shared/golden)")
    assert imagenet.WORDNET_IDS == tuple(listed.read_text().split())


@pytest.mark.parametrize("sub", ["", "val"])
def test_a_folder_with_some_classes_is_labelled_by_their_wordnet_ids(folder, sub):
    dataset = imagenet.open(folder / sub)
    assert dataset.labels == [0] * 3 + [491] * 5
    assert dataset.num_classes == 1000 and dataset.image_size == (224, 224)
    assert [Path(path).parent.name for path in dataset.paths] == [TENCH] * 3 + [CHURN] * 5


def test_items_are_resized_cropped_and_normalised(folder):
    image, label = imagenet.open(folder)[3]
    assert (image.shape, image.dtype, label) == ((3, 224, 224), torch.float32, 491)
    flat = folder / "val" / TENCH / "flat.png"
    Image.new("RGB", (500, 400), (255, 0, 51)).save(flat)
    dataset = imagenet.open(folder)
    image, _ = dataset[dataset.paths.index(str(flat))]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert torch.allclose(image.mean(dim=(1, 2)), torch.tensor(expected), atol=1e-5)


def test_the_crop_is_the_centre_of_the_shorter_side_at_256(folder):
    picture = Image.new("L", (512, 256), 0)
    picture.paste(255, (256 - 112, 16, 256 + 112, 240))
    path = folder / "val" / TENCH / "centre.png"
    picture.save(path)
    dataset = imagenet.open(folder)
    image, _ = dataset[dataset.paths.index(str(path))]
    assert torch.allclose(image[0], torch.tensor((1 - 0.485) / 0.229), atol=1e-5)


@pytest.mark.parametrize("mode, suffix", [("L", "png"), ("RGBA", "png"), ("P", "png"), ("CMYK", "jpg")])
def test_any_colour_mode_is_read_as_rgb(tmp_path, mode, suffix):
    save_picture(tmp_path / TENCH / f"a.{suffix}", mode=mode)
    assert imagenet.open(tmp_path)[0][0].shape == (3, 224, 224)


def test_other_class_lists_and_sub_folders_that_are_no_class(folder, capsys):
    (folder / "val" / "lost+found").mkdir()
    dataset = imagenet.open(folder, classes=("other", CHURN))
    assert set(dataset.labels) == {1} and dataset.num_classes == 2
    assert "left out: lost+found, n01440764" in capsys.readouterr().err


@pytest.mark.parametrize("make, words", [
    (lambda root: root / "absent", "cannot read the data folder"),
    (lambda root: root, "no known class"),
    (lambda root: (root / "cats").mkdir() or root, "no known class"),
    (lambda root: (root / TENCH).mkdir() or root, "no pictures"),
])
def test_a_folder_without_data_says_what_is_missing(tmp_path, make, words):
    with pytest.raises(SpicError, match=words) as caught:
        imagenet.open(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no picture", "truncated"])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_one_line_also_from_a_worker(folder, content, workers):
    victim = folder / "val" / TENCH / "1.JPEG"
    victim.write_bytes(victim.read_bytes()[:9000] if content == "truncated" else content)
    with pytest.raises(UnreadableImage) as caught:
        list(batches(imagenet.open(folder), 2, workers))
    message = str(caught.value)
    assert message.startswith("cannot read the image") and str(victim) in message and "\n" not in message


def test_a_limit_takes_the_same_even_subset(folder):
    assert imagenet.open(folder, limit=4).labels == [0, 0, 491, 491]
    assert imagenet.open(folder, limit=4).paths == imagenet.open(folder, limit=4).paths
    assert len(imagenet.open(folder, limit=99)) == 8
    with pytest.raises(SpicError, match="at least 1"):
        imagenet.open(folder, limit=0)


@given(st.integers(1, 500), st.integers(1, 500))
def test_even_subsets_are_ordered_distinct_and_without_large_gaps(count, limit):
    taken = evenly_spread(list(range(count)), limit)
    gaps = np.diff(taken + [count])
    assert len(taken) == min(count, limit) and taken[0] == 0
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_sixteen_bit_pictures_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 5), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert read_rgb(tmp_path / "deep.png").getpixel((0, 0)) == (128, 128, 128)
