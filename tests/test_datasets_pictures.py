"""What the edge does to a picture without torch: pixel for pixel what torchvision does, bit for bit what torch computes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from spic.benchmarks import benchmarks
from spic.datasets.images import Preparation, normalise
from spic.datasets.pictures import FILTERS, FLOAT32, FLOAT64, NumpyPreparation, Stretched, normalised, preparation
from spic.errors import SpicError


def photo(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300), st.integers(1, 300), st.sampled_from(sorted(FILTERS)))
def test_geometry_is_torchvisions(width, height, resize, crop, interpolation):
    image = photo(width, height)
    if max(width, height) > 20 * min(width, height):
        return
    theirs = transforms.CenterCrop(crop)(transforms.Resize(resize, InterpolationMode(interpolation))(image))
    assert (np.asarray(NumpyPreparation(resize, crop, interpolation).geometry(image)) == np.asarray(theirs)).all()


@pytest.mark.parametrize("rounding", [FLOAT32, FLOAT64])
def test_every_pixel_value_is_normalised_as_by_torch(rounding):
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert (normalised(pixels, rounding=rounding) == normalise(pixels, rounding=rounding).numpy()).all()


@pytest.mark.parametrize("name", sorted(f"{task}/{name}" for task, name in benchmarks()))
def test_what_a_manifest_says_prepares_as_the_benchmark_does(name):
    benchmark = benchmarks()[tuple(name.split("/"))]
    image = photo(500, 333)
    read = preparation(benchmark.preparation.to_json())
    assert read.image_size == benchmark.image_size
    assert type(read) in (NumpyPreparation, Stretched)
    assert torch.equal(torch.from_numpy(read.array(image)), benchmark.preparation(image))


@pytest.mark.parametrize("change", [
    {"kind": "other"}, {"kind": []}, {"resize": 0}, {"crop": 5000}, {"resize": "256"}, {"mean": [0.5]},
    {"mean": [0.5, 0.5, "x"]},
    {"std": [0, 1, 1]}, {"interpolation": "cubic"}, {"interpolation": 3}, {"rounding": "scaled"}, {"more": 1}])
def test_a_preparation_from_outside_is_checked(change):
    with pytest.raises(SpicError):
        preparation(Preparation().to_json() | change)


@pytest.mark.parametrize("entry", [None, [], "cropped", {}, {"kind": "cropped"}])
def test_what_is_no_preparation_is_refused(entry):
    with pytest.raises(SpicError, match="no known way"):
        preparation(entry)
