"""Reading pictures safely, and the one way from pixels to what a network takes: bit for bit what it always was."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision import transforms

from spic.datasets.images import Preparation, normalise
from spic.datasets.pictures import (FLOAT32, FLOAT64, MEAN, MOST_ASPECT,
                                    SCALED, STD, UnreadableImage, check_size, read_rgb)
from spic.errors import SpicError


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- pixels → network input --------------------------------------------------------------------------------------

def torchvisions(pixels):
    """What classification gets, and what every rival's network gets."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])(pixels)


def published(pixels):
    """The published segmentation loader's, in numpy."""
    values = pixels.astype(np.float32) / np.float32(255)
    values -= np.array(MEAN)
    values /= np.array(STD)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def augmenting(images):
    """What training pictures in memory get."""
    mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.float() - mean) / std


@pytest.mark.parametrize("size", [(7, 5), (160, 160), (224, 224), (513, 300)])
def test_each_rounding_is_bit_for_bit_the_formula_it_replaces(size):
    pixels = noise(*size)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    assert torch.equal(normalise(pixels), torchvisions(pixels))
    assert torch.equal(normalise(pixels, rounding=FLOAT64), published(pixels))
    assert torch.equal(normalise(images, rounding=SCALED), augmenting(images))
    between = images + torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalise(between, rounding=SCALED), augmenting(between))


def test_every_value_of_a_pixel_is_rounded_as_before():
    pixels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    assert torch.equal(normalise(pixels), torchvisions(pixels))
    assert torch.equal(normalise(pixels, rounding=FLOAT64), published(pixels))


def test_the_roundings_do_differ_and_only_in_the_last_bit():
    pixels = noise(64, 64)
    others = [normalise(pixels, rounding=rounding) for rounding in (FLOAT64, SCALED)]
    assert not any(torch.equal(normalise(pixels), other) for other in others)
    assert all(torch.allclose(normalise(pixels), other, rtol=0, atol=1e-6) for other in others)


def test_a_batch_is_its_pictures_in_channels_last_memory():
    batch = np.stack([noise(8, 6, seed) for seed in range(3)])
    images = normalise(batch)
    assert images.shape == (3, 3, 8, 6) and images.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(image, normalise(pixels)) for image, pixels in zip(images, batch))
    assert torch.equal(normalise(torch.from_numpy(batch).permute(0, 3, 1, 2)), images)
    assert normalise(batch[0]).is_contiguous()


def test_the_pixels_handed_in_stay_as_they_are():
    images = torch.rand(1, 3, 4, 4) * 255
    before = images.clone()
    for rounding in (FLOAT32, FLOAT64, SCALED):
        normalise(images, rounding=rounding)
        assert torch.equal(images, before)


def test_other_networks_take_other_means_and_deviations():
    lite = Preparation(256, 224, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3)
    image = Image.fromarray(noise(300, 280))
    expected = (torch.from_numpy(lite.pixels(image).copy()).permute(2, 0, 1).float() - 127) / 128
    assert torch.allclose(lite(image), expected, atol=1e-6)
    assert not np.array_equal(lite.pixels(image), Preparation().pixels(image))


@pytest.mark.parametrize("resize, crop", [(256, 224), (160, 160), (100, 120)])
def test_a_preparation_is_torchvisions_resize_and_crop(resize, crop):
    preparation, image = Preparation(resize, crop), Image.fromarray(noise(200, 333))
    expected = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop)])(image)
    assert np.array_equal(preparation.pixels(image), np.asarray(expected))
    assert preparation(image).shape == (3, *preparation.image_size) == (3, crop, crop)


@pytest.mark.parametrize("wrong, words", [({"interpolation": "best"}, "choose from nearest"), ({"crop": 0}, "1 to 4096"),
                                          ({"resize": 10 ** 9}, "1 to 4096")])
def test_a_preparation_that_cannot_be_is_refused(wrong, words):
    with pytest.raises(SpicError, match=words):
        Preparation(**wrong)


# ---- reading -----------------------------------------------------------------------------------------------------

def png(path, width, height):
    """A small PNG file whose header promises that many pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = zlib.compress(bytes(10 ** 6), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.fixture
def undecoded(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("width, height, words", [
    (9_000, 9_000, "is 9000x9000 pixels, and a picture may have 1 to 67108864"),
    (12_000, 12_000, "1 to 67108864"),
    (60_000, 60_000, "decompression bomb"),
    (2 ** 31 - 1, 2 ** 31 - 1, "b.png"),
    (1, 60_000, "is 1x60000 pixels, and a picture may be at most 50 times"),
    (60_000, 1, "is 60000x1 pixels, and a picture may be at most 50 times"),
    (2_000, 39, "at most 50 times"), (0, 5, "b.png")])
def test_bombs_and_extreme_shapes_are_refused_by_their_header(tmp_path, undecoded, width, height, words):
    with pytest.raises(UnreadableImage, match=words) as caught:
        read_rgb(png(tmp_path / "b.png", width, height))
    assert "b.png" in str(caught.value) and "\n" not in str(caught.value)


def test_pillow_adds_no_warning_of_its_own(tmp_path):
    path = png(tmp_path / "b.png", 10_000, 10_000)
    command = f"from spic.datasets.pictures import read_rgb\ntry: read_rgb({str(path)!r})\nexcept Exception as e: print(e)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1 and "10000x10000" in done.stdout


def test_sizes_at_the_limit_pass():
    check_size("a", 8192, 8192)
    check_size("a", 100 * MOST_ASPECT, 100)
    with pytest.raises(UnreadableImage):
        check_size("a", 100 * MOST_ASPECT + 1, 100)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp", "ppm"])
def test_damaged_files_of_any_format_are_one_line_that_names_them(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(20, 30)).save(path)
    good, rng = path.read_bytes(), np.random.default_rng(1)
    for case in range(150):
        data = bytearray(good[:rng.integers(len(good) + 1)] if case % 3 == 0 else good)
        for place in rng.integers(0, max(1, min(len(data), 200)), 3 if data else 0):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert read_rgb(path).mode == "RGB"
        except UnreadableImage as error:
            assert f"a.{suffix}" in str(error) and "\n" not in str(error)


def test_a_picture_without_a_range_says_so(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(UnreadableImage, match="f.tiff .*mode F.*has no known range"):
        read_rgb(tmp_path / "f.tiff")


@pytest.mark.parametrize("path", ["absent.png", "."])
def test_what_is_no_file_is_one_line(tmp_path, path):
    with pytest.raises(UnreadableImage, match="cannot read the image"):
        read_rgb(tmp_path / path)
