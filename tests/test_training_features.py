"""Cached features of the frozen front, training views, augmentation."""

import os
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spic import cache
from spic.benchmarks import Cropping
from spic.datasets.images import normalise
from spic.errors import SpicError
from spic.networks import cut, trace
from spic.networks.narrow import deeplabv3_resnet50, resnet50
from spic.training import features as feature_files
from spic.training.augment import augmented, box
from spic.training.features import FeatureSet, Views, compute
from spic.training.pictures import Pictures

CUTS = {"S3": "layer3.4", "S2": "layer4.0"}


class Noise:
    """Eleven labelled images [3, 64, 80] of noise, with a file for each."""

    image_size = (64, 80)

    def __init__(self, folder, masks: bool = False):
        self.paths = [folder / f"{i}.raw" for i in range(11)]
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a picture")
        self.masks = masks

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randn(3, 64, 80, generator=generator)
        return image, (image[0] > 0).long() if self.masks else index


class Bare(Noise):
    def __getitem__(self, index):
        return super().__getitem__(index)[0]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet50(0.125, 11).eval()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def passes(monkeypatch):
    """Counts the passes over pictures."""
    found, fill = [], feature_files._fill
    monkeypatch.setattr(feature_files, "_fill", lambda *given: found.append(given[1]) or fill(*given))
    return found


def stores():
    return sorted(entry.path for entry in cache.FEATURES.entries())


def test_features_are_what_the_front_gives(network, tmp_path, passes):
    views = Views(Noise(tmp_path))
    images = torch.stack([views[i][0] for i in range(11)])
    for source in (network, trace(network, images[:1])):  # computed, then read back: the weights are the same
        sets = compute(source, list(CUTS.values()), views, 2, torch.float32)
        for name, found in sets.items():
            with torch.inference_mode():
                expected = cut(network, name, images[:1])[0](images)
            torch.testing.assert_close(found.features, expected, rtol=1e-3, atol=1e-3)
            assert found.targets.tolist() == list(range(11)) and found.image_size == (64, 80)


def test_features_are_computed_once_and_again_for_another_network_cut_or_choice_of_pictures(network, tmp_path, passes):
    noise = Noise(tmp_path)
    for _ in range(2):
        compute(network, ["layer4.0"], Views(noise), 1)
    assert len(passes) == 1
    compute(resnet50(0.125, 11).eval(), ["layer4.0"], Views(noise), 1)
    compute(network, ["layer4.0"], Views(noise, limit=4), 1)
    compute(network, ["layer3.4", "layer4.0"], Views(noise), 1)
    assert passes[1:] == [["layer4.0"], ["layer4.0"], ["layer3.4"]] and len(stores()) == 4


def test_other_pictures_under_the_same_names_are_other_features(network, tmp_path, monkeypatch, passes):
    """Another working folder, or photos replaced under the same names."""
    names = [Noise(tmp_path / place).paths[0].parent for place in "AB"]
    noise = Noise(tmp_path / "A")
    noise.paths = [path.relative_to(names[0]) for path in noise.paths]
    for place in names:
        monkeypatch.chdir(place)
        compute(network, ["layer4.0"], Views(noise), 1)
    assert len(passes) == 2
    os.utime(noise.paths[3], (1, 1))
    compute(network, ["layer4.0"], Views(noise), 1)
    noise.paths[3].write_text("another picture")
    os.utime(noise.paths[3], (1, 1))
    compute(network, ["layer4.0"], Views(noise), 1)
    assert len(passes) == 4


def test_another_preparation_makes_other_features(network, tmp_path, passes):
    for preparation in ("bilinear", "bicubic"):
        noise = Noise(tmp_path)
        os.utime(noise.paths[0], (1, 1)), [os.utime(path, (1, 1)) for path in noise.paths]
        noise.preparation = preparation
        compute(network, ["layer4.0"], Views(noise), 1)
    assert len(passes) == 2


@pytest.mark.parametrize("damage", ["short", "long", "gone", "note", "targets", "text"])
def test_damaged_features_are_made_again(network, tmp_path, passes, damage):
    """A truncated file was read as zeros and trained on, and grew by being read."""
    views = Views(Noise(tmp_path))
    before = compute(network, ["layer4.0"], views, 1)["layer4.0"].features.clone()
    (store,) = stores()
    data = store / "features.bin"
    {"short": lambda: os.truncate(data, data.stat().st_size - 2), "long": lambda: os.truncate(data, data.stat().st_size + 2),
     "gone": data.unlink, "note": lambda: (store / "complete.json").write_text("{}"),
     "targets": lambda: os.truncate(store / "targets.bin", 0),
     "text": lambda: (store / "complete.json").write_text("[3")}[damage]()
    after = compute(network, ["layer4.0"], views, 1)["layer4.0"].features
    assert torch.equal(before, after) and len(passes) == 2


def test_the_cache_is_bounded_and_the_least_recently_used_go_first(network, tmp_path, monkeypatch, passes):
    """A file of another size is not a set."""
    noise = Noise(tmp_path)
    one = 11 * 256 * 2 * 3 * 2  # bytes of a set in bfloat16
    monkeypatch.setenv("SPIC_CACHE_GB", str(2.6 * one / 1e9))
    for limit in (11, 10):
        compute(network, ["layer4.0"], Views(noise, limit=limit), 1)
    old, new = stores()[0], stores()[1]
    first = max(stores(), key=lambda store: (store / "features.bin").stat().st_size)
    for store, age in ((old, 2000), (new, 2000)):
        os.utime(store, (age, age))
    compute(network, ["layer4.0"], Views(noise, limit=11), 1)  # used again: the other one is now the older
    compute(network, ["layer4.0"], Views(noise, limit=9), 1)
    assert first in stores() and len(stores()) == 2 and len(passes) == 3
    monkeypatch.setenv("SPIC_CACHE_GB", str(0.5 * one / 1e9))
    with pytest.raises(SpicError, match="fewer pictures .--limit., another cut, or set SPIC_CACHE_GB"):
        compute(network, ["layer3.4"], Views(noise), 1)


def test_a_set_that_is_cleared_while_it_is_read_stays_whole(network, tmp_path):
    found = compute(network, ["layer4.0"], Views(Noise(tmp_path)), 1)["layer4.0"].features
    before = found.clone()
    shutil.rmtree(stores()[0])
    assert torch.equal(found, before)


def test_a_cut_that_several_tensors_cross_is_refused(network, tmp_path):
    with pytest.raises(SpicError, match="2 tensors cross"):
        compute(network, ["layer3.4.conv1"], Views(Noise(tmp_path)), 1)


def test_features_without_targets(network, tmp_path):
    assert compute(network, ["layer4.0"], Views(Bare(tmp_path)), 1)["layer4.0"].targets is None


def test_crops_take_the_same_part_of_image_and_mask(tmp_path):
    views = Views(Noise(tmp_path, masks=True), crop=33, per_image=2)
    assert len(views) == 22
    for index in range(6):
        image, mask = views[index]
        assert image.shape == (3, 33, 33) and torch.equal(mask, (image[0] > 0).long())
    assert not torch.equal(views[0][0], views[1][0])
    found = compute(deeplabv3_resnet50(0.125, 2).eval(), ["backbone.layer3"], views, 1)["backbone.layer3"]
    assert found.features.shape == (22, 128, 5, 5) and found.targets.shape == (22, 33, 33)


@given(height=st.integers(8, 300), width=st.integers(8, 300), seed=st.integers(0, 9999), square=st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_crops_lie_inside_the_picture(height, width, seed, square):
    generator = torch.Generator().manual_seed(seed)
    top, left, h, w = box(Cropping((0.1, 1.0), of_square=square), height, width, lambda: torch.rand((), generator=generator).item())
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h and w


def test_augmentation_moves_image_and_mask_alike_and_depends_on_the_seed_alone():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:30, 20:40] = 255
    pictures = Pictures([image] * 6, [(image[0] > 0).byte()] * 6)

    def batch(seed):
        return augmented(pictures, range(6), Cropping((0.3, 0.9)), 32, torch.Generator().manual_seed(seed), colour=0)

    images, masks = batch(3)
    bright = images[:, 0] > normalise(torch.full((1, 3, 1, 1), 128, dtype=torch.uint8))[0, 0]
    assert (bright == (masks > 0)).float().mean() > 0.95
    assert torch.equal(images, batch(3)[0]) and not torch.equal(images, batch(4)[0])


@pytest.mark.parametrize("height, width, window", [(9, 9, 5), (7, 12, 4), (4, 6, 8)])
def test_a_window_shows_the_same_place_of_feature_and_mask(height, width, window):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixel_rows, pixel_columns = torch.meshgrid(torch.arange(8 * height - 7), torch.arange(8 * width - 7), indexing="ij")
    feature = torch.stack([rows, columns]).float()[None].repeat(3, 1, 1, 1)
    mask = (pixel_rows * 1000 + pixel_columns)[None].repeat(3, 1, 1)
    data = FeatureSet(feature, mask, tuple(mask.shape[-2:]), window)
    corners = set()
    for seed in range(20):
        shown, target = data.batch(torch.tensor([2, 0]), data.place(torch.Generator().manual_seed(seed)))
        assert shown.shape == (2, 2, min(window, height), min(window, width))
        top, left = shown[0, :, 0, 0].long().tolist()
        assert target[0].numel() == data.pixels
        assert torch.equal(target[:, ::8, ::8] // 1000, 8 * shown[:, 0].long())
        assert torch.equal(target[:, ::8, ::8] % 1000, 8 * shown[:, 1].long())
        corners.add((top, left))
    assert len(corners) > 1 or window >= max(height, width)


def test_without_a_window_a_batch_shows_whole_pictures():
    data = FeatureSet(torch.rand(4, 2, 5, 5), torch.arange(4), (40, 40))
    shown, labels = data.batch(torch.tensor([3, 1]), data.place(torch.Generator()))
    assert torch.equal(shown, data.features[[3, 1]]) and labels.tolist() == [3, 1] and data.pixels == 1600
