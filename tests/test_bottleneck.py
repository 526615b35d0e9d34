"""Bottlenecks: their shapes, and the published ones against values computed with the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spic.bottleneck import GEOMETRY, make_bottleneck
from spic.errors import SpicError
from spic.points import load_points
from spic.published.checkpoints import read_checkpoint
from spic.published.layout import Artefact, published_points
from spic.quantize import dequantize, quantize

SHARED = Path(__file__).parents[1].parent / "shared"
POINTS = {(p.task, p.split_point, p.compress_factor): p for p in published_points()}
UNITS = sorted((SHARED / "golden" / "units").glob("*.npz"))
SIZES = {("classification", "S1"): 7, ("classification", "S2"): 7, ("classification", "S3"): 14}


@pytest.mark.parametrize("size, stride, coded, back", [(7, 2, 4, 7), (7, 4, 2, 7), (7, 1, 7, 7)])
def test_late_classification_comes_back_in_the_size_of_the_feature(size, stride, coded, back):
    unit = make_bottleneck("classification", "S1", 16, 4, stride).eval()
    symbols = unit.encoder(torch.randn(2, 16, size, size))
    assert symbols.shape == (2, 4, coded, coded)
    assert unit.decoder(symbols).shape == (2, 16, back, back)


@pytest.mark.parametrize("stride, back", [(2, 15), (4, 17)])
def test_published_classification_s3_comes_back_larger(stride, back):
    unit = make_bottleneck("classification", "S3", 16, 4, stride).eval()
    assert unit(torch.randn(1, 16, 14, 14)).shape == (1, 16, back, back)


@pytest.mark.parametrize("location, stride", [(k[1], s) for k, g in GEOMETRY.items() if k[0] == "segmentation"
                                              for s in g.decoder])
def test_segmentation_feature_comes_back_within_one_stride(location, stride):
    back = make_bottleneck("segmentation", location, 8, 2, stride).eval()(torch.randn(1, 8, 65, 65)).shape[-1]
    assert abs(back - 65) <= stride


def test_the_feature_is_never_negative():
    unit = make_bottleneck("segmentation", "S2", 8, 4, 4).eval()
    assert unit.encoder(torch.randn(1, 8, 33, 33)).min() >= 0


def test_an_undefined_stride_names_the_defined_ones():
    with pytest.raises(SpicError, match="stride 5 .* 1, 2, 4"):
        make_bottleneck("classification", "S1", 8, 4, 5)


def test_every_operating_point_has_a_defined_geometry():
    for point in load_points().values():
        make_bottleneck(point.task, point.location, 4, point.channels, point.stride)


def test_quantisation_rounds_half_to_even_and_comes_back_on_the_grid():
    feature = torch.tensor([0.0, 0.9, 1.0, 1.1, 3.0, 5.0])
    symbols = quantize(feature, 2.0)
    assert symbols.tolist() == [0, 0, 0, 1, 2, 2] and symbols.dtype == torch.int32
    assert dequantize(symbols, 2.0).tolist() == [0, 0, 0, 2, 4, 4]


@pytest.fixture(scope="module")
def published():
    folder = SHARED / "paper" / "published"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


def golden_input(channels: int, size: int) -> torch.Tensor:
    """The input the golden values were computed from: a fixed pattern of sixteenths in 0..2.9375."""
    c, i, j = np.ogrid[:channels, :size, :size]
    return torch.from_numpy(np.maximum(0, ((7 * c + 13 * i + 29 * j) % 64) / 16 - 1).astype(np.float32))[None]


@pytest.mark.skipif(not UNITS, reason=f"{SHARED / 'golden' / 'units'} is absent")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
@torch.inference_mode()
def test_published_unit_gives_the_golden_values(path, published):
    task, split_point, factor = path.stem.split("_")
    point, golden = POINTS[task, split_point, int(factor)], np.load(path)
    name = Artefact(point, "weights").name
    state = read_checkpoint((published / name).read_bytes(), point, name).state
    channels = len(state["encoder.depthwise.weight"])
    unit = make_bottleneck(task, point.location, channels, point.channels, point.stride).eval()
    unit.load_state_dict(state)

    symbols = quantize(unit.encoder(golden_input(channels, SIZES.get((task, point.location), 65))), point.step)
    assert symbols.shape[1:] == golden["symbols"].shape
    assert (symbols[0].numpy() != golden["symbols"]).mean() <= 1e-4

    decoded = unit.decoder(dequantize(torch.from_numpy(golden["symbols"])[None], point.step))[0].numpy()
    assert list(decoded.shape)[-3:] == list(golden["decoded_shape"])[-3:]
    scale = np.abs(golden["decoded_channel_mean"]).max()
    np.testing.assert_allclose(decoded.mean((1, 2)), golden["decoded_channel_mean"], rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(decoded[:8, :5, :5], golden["decoded_corner"], rtol=1e-3, atol=1e-3 * scale)
