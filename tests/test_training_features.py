"""Cached features of the frozen front, training views, augmentation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.datasets.images import normalise
from spic.errors import SpicError
from spic.networks import cut, deeplabv3_resnet50, resnet50
from spic.training.augment import RandomCrop, augmented
from spic.training.features import FeatureSet, Views, compute
from spic.training.pictures import Pictures


class Noise:
    """Eleven labelled images [3, 64, 80] of noise."""

    image_size = (64, 80)

    def __init__(self, masks: bool = False):
        self.paths = [f"noise/{i}" for i in range(11)]
        self.masks = masks

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randn(3, 64, 80, generator=generator)
        return image, (image[0] > 0).long() if self.masks else index


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet50(0.125, 11).eval()


def test_features_are_what_the_front_gives(network, tmp_path):
    views = Views(Noise())
    for _ in range(2):  # computed, then read back
        sets = compute(network, ["S3", "S2"], views, 2, torch.float32, tmp_path)
        for name, found in sets.items():
            with torch.inference_mode():
                expected = cut(network, name)[0](torch.stack([views[i][0] for i in range(11)]))
            torch.testing.assert_close(found.features, expected, rtol=1e-3, atol=1e-3)
            assert found.targets.tolist() == list(range(11)) and found.image_size == (64, 80)


def test_features_are_computed_once_and_again_for_another_network(network, tmp_path):
    compute(network, ["S2"], Views(Noise()), 1, folder=tmp_path)
    compute(network, ["S2"], Views(Noise()), 1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    compute(resnet50(0.125, 11).eval(), ["S2"], Views(Noise()), 1, folder=tmp_path)
    compute(network, ["S2"], Views(Noise(), limit=4), 1, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_features_without_targets(network, tmp_path):
    class Bare(Noise):
        def __getitem__(self, index):
            return super().__getitem__(index)[0]

    assert compute(network, ["S2"], Views(Bare()), 1, folder=tmp_path)["S2"].targets is None


def test_damaged_features_say_what_to_delete(network, tmp_path):
    compute(network, ["S2"], Views(Noise()), 1, folder=tmp_path)
    (store,) = tmp_path.iterdir()
    (store / "complete.json").write_text("{}")
    with pytest.raises(SpicError, match="delete that folder"):
        compute(network, ["S2"], Views(Noise()), 1, folder=tmp_path)


def test_crops_take_the_same_part_of_image_and_mask(tmp_path):
    views = Views(Noise(masks=True), crop=33, per_image=2)
    assert len(views) == 22
    for index in range(6):
        image, mask = views[index]
        assert image.shape == (3, 33, 33) and torch.equal(mask, (image[0] > 0).long())
    assert not torch.equal(views[0][0], views[1][0])
    found = compute(deeplabv3_resnet50(0.125, 2).eval(), ["S3"], views, 1, folder=tmp_path)["S3"]
    assert found.features.shape == (22, 128, 5, 5) and found.targets.shape == (22, 33, 33)


@given(height=st.integers(8, 300), width=st.integers(8, 300), seed=st.integers(0, 9999), square=st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_crops_lie_inside_the_picture(height, width, seed, square):
    generator = torch.Generator().manual_seed(seed)
    crop = RandomCrop((0.1, 1.0), of_square=square)
    top, left, h, w = crop.box(height, width, lambda: torch.rand((), generator=generator).item())
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h and w


def test_augmentation_moves_image_and_mask_alike_and_depends_on_the_seed_alone():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:30, 20:40] = 255
    pictures = Pictures([image] * 6, [(image[0] > 0).byte()] * 6)

    def batch(seed):
        return augmented(pictures, range(6), RandomCrop((0.3, 0.9)), 32, torch.Generator().manual_seed(seed), colour=0)

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
        shown, target = data.batch(torch.tensor([2, 0]), torch.Generator().manual_seed(seed))
        assert shown.shape == (2, 2, min(window, height), min(window, width))
        top, left = shown[0, :, 0, 0].long().tolist()
        assert target[0].numel() == data.pixels
        assert torch.equal(target[:, ::8, ::8] // 1000, 8 * shown[:, 0].long())
        assert torch.equal(target[:, ::8, ::8] % 1000, 8 * shown[:, 1].long())
        corners.add((top, left))
    assert len(corners) > 1 or window >= max(height, width)


def test_without_a_window_a_batch_shows_whole_pictures():
    data = FeatureSet(torch.rand(4, 2, 5, 5), torch.arange(4), (40, 40))
    shown, labels = data.batch(torch.tensor([3, 1]), torch.Generator())
    assert torch.equal(shown, data.features[[3, 1]]) and labels.tolist() == [3, 1] and data.pixels == 1600
