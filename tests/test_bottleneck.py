"""Bottlenecks: their shapes, and the published ones against values computed with the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hypothesis import given, settings
from hypothesis import strategies as st

from spic.benchmarks import PUBLISHED, find
from spic.bottleneck import (CONV, CONV2, FORMS, PUBLISHED_LATE, PUBLISHED_PIXELS, SEPARABLE, SEPARABLE2, TOPOLOGIES,
                             is_channels_last, last_activation, make_bottleneck)
from spic.errors import SpicError
from spic.networks.cost import cost
from spic.networks.fold import fold_batch_norm
from spic.networks.weights import parameters_of
from spic.points import load_points
from spic.published.checkpoints import read_checkpoint
from spic.published.layout import Artefact, published_points
from spic.quantize import dequantize, quantize

SHARED = Path(__file__).parents[1].parent / "shared"
POINTS = {(p.task, p.split_point, p.compress_factor): p for p in published_points()}
UNITS = sorted((SHARED / "golden" / "units").glob("*.npz"))
SIZES = {("classification", "S1"): 7, ("classification", "S2"): 7, ("classification", "S3"): 14}


def published(task, location, channels, stride, size):
    """A bottleneck of the published geometry for a feature of 16 channels."""
    geometry = find(task, PUBLISHED[task]).geometry[location]
    return make_bottleneck((16, size, size), channels, stride, geometry).eval()


@pytest.mark.parametrize("size, stride, coded, back", [(7, 2, 4, 7), (7, 4, 2, 7), (7, 1, 7, 7)])
def test_late_classification_comes_back_in_the_size_of_the_feature(size, stride, coded, back):
    unit = published("classification", "S1", 4, stride, size)
    symbols = unit.encoder(torch.randn(2, 16, size, size))
    assert symbols.shape == (2, 4, coded, coded) and unit.encoder.shape == (4, coded, coded)
    assert unit.decoder(symbols).shape == (2, 16, back, back)


@pytest.mark.parametrize("stride, back", [(2, 15), (4, 17)])
def test_published_classification_s3_comes_back_larger(stride, back):
    unit = published("classification", "S3", 4, stride, 14)
    assert unit(torch.randn(1, 16, 14, 14)).shape == (1, 16, back, back)


@pytest.mark.parametrize("stride", PUBLISHED_PIXELS.decoder)
def test_segmentation_feature_comes_back_on_the_grid_of_the_front(stride):
    unit, feature = published("segmentation", "S2", 2, stride, 65), torch.randn(1, 16, 65, 65)
    assert abs(unit.decoder(unit.encoder(feature)).shape[-1] - 65) <= stride
    assert unit(feature).shape == feature.shape


def test_a_decoded_feature_is_cut_and_its_edge_repeated_to_fit_the_grid():
    decoder = make_bottleneck((1, 4, 3), 1, 1, PUBLISHED_PIXELS).decoder
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert decoder.place(feature).tolist() == [[[[0, 1, 2], [4, 5, 6], [8, 9, 10], [8, 9, 10]]]]
    assert torch.equal(decoder.place(feature, (3, 4)), feature)
    assert make_bottleneck((1, 2, 2), 1, 1, PUBLISHED_LATE).decoder.place(feature) is feature


SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 33), st.integers(1, 33)),
    st.tuples(st.integers(1, 40), st.integers(1, 9)), st.tuples(st.integers(1, 9)))


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(1, 9), st.integers(1, 3), st.sampled_from(["relu", "none"]), st.sampled_from(TOPOLOGIES))
def test_any_feature_comes_back_in_its_own_shape(shape, stride, channels, activation, form):
    unit = make_bottleneck(shape, channels, stride if len(shape) == 3 else 1, activation=activation, form=form).eval()
    feature = torch.randn(2, *shape)
    symbols = unit.encoder(feature)
    assert tuple(symbols.shape[1:]) == unit.encoder.shape and symbols.min() >= 0
    assert unit(feature).shape == feature.shape
    assert unit.decoder(symbols).shape[-2:] == unit.decoder.planes.plane[1:], "a derived decoder gives that size by itself"


@pytest.mark.parametrize("form, millions", [(CONV, 4.72), (SEPARABLE, 0.57), (CONV2, 5.02), (SEPARABLE2, 0.61)])
def test_parameters_of_the_topologies(form, millions):
    """Table 3 of the paper has 4.72 M and 0.57 M for one layer; its two layers, 5.58 M and 0.58 M, are not what we make of them."""
    with torch.device("meta"):
        unit = make_bottleneck((2048, 7, 7), 128, 2, PUBLISHED_LATE, form=form)
    count = sum(parameter.numel() for parameter in unit.parameters())
    assert round(count / 1e6, 2) == millions and parameters_of(unit.state_dict()) == count


@pytest.mark.parametrize("form, encoder, decoder", [
    (SEPARABLE, ["depthwise (16, 1, 3, 3)", "pointwise (4, 16, 1, 1)"], ["pointwise (4, 16, 1, 1)", "depthwise (16, 1, 3, 3)"]),
    (CONV, ["conv (4, 16, 3, 3)"], ["conv (4, 16, 3, 3)"]),
    (CONV2, ["conv (4, 16, 3, 3)", "conv2 (4, 4, 3, 3)"], ["conv2 (4, 4, 3, 3)", "conv (4, 16, 3, 3)"]),
    (SEPARABLE2, ["depthwise (16, 1, 3, 3)", "pointwise (4, 16, 1, 1)", "depthwise2 (4, 1, 3, 3)", "pointwise2 (4, 4, 1, 1)"],
     ["pointwise2 (4, 4, 1, 1)", "depthwise2 (4, 1, 3, 3)", "pointwise (4, 16, 1, 1)", "depthwise (16, 1, 3, 3)"])])
def test_layers_of_the_topologies_and_what_they_cost(form, encoder, decoder):
    """Names that files hold, in order of use; on 7 x 7, stride 2, each convolution of the encoder gives 4 x 4 cells."""
    unit = make_bottleneck((16, 7, 7), 4, 2, PUBLISHED_LATE, form=form)
    for half, layers in ((unit.encoder, encoder), (unit.decoder, decoder)):
        told = [f"{name} {tuple(part.weight.shape)}" for name, part in half.named_children() if not name.startswith("norm")]
        assert told == layers and {name for name, _ in half.named_children() if name.startswith("norm")} == {
            f"norm{number + 1}" for number in range(len(layers))}
    weights = sum(part.weight.numel() for name, part in unit.encoder.named_children() if not name.startswith("norm"))
    assert cost(unit.encoder, (7, 7), 16)["macs"] == 16 * weights


@pytest.mark.parametrize("form", TOPOLOGIES)
def test_a_folded_topology_is_the_same_function_of_all_its_layers(form):
    torch.manual_seed(0)
    unit, feature = make_bottleneck((16, 9, 9), 4, 3, form=form, activation="none"), torch.randn(8, 16, 9, 9).relu()
    for _ in range(20):
        unit.train()(feature)
    halves = [(half, x, half.eval()(x).detach()) for half, x in ((unit.encoder, feature),
                                                                             (unit.decoder, torch.randn(8, 4, 3, 3).relu()))]
    for half, x, expected in halves:
        assert expected.std() > 0.01
        torch.testing.assert_close(fold_batch_norm(half)(x), expected, rtol=1e-4, atol=1e-5)
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in half.modules())
        for name, part in [*half.named_children()]:
            if getattr(part, "weight", None) is not None:
                weight = part.weight.clone()
                part.weight.data.zero_()
                assert not torch.allclose(half(x), expected, atol=1e-3), f"{name} has no effect"
                part.weight.data.copy_(weight)


def test_channels_last_is_told_by_the_size_of_the_image():
    assert is_channels_last((14, 14, 96), (224, 224)) and not is_channels_last((96, 14, 14), (224, 224))
    assert is_channels_last((10, 14, 96), (160, 224)) and not is_channels_last((96, 10, 14), (160, 224))
    unit = make_bottleneck((14, 14, 96), 5, 2, image_size=(224, 224)).eval()
    assert unit.encoder.shape == (5, 7, 7) and unit(torch.randn(1, 14, 14, 96)).shape == (1, 14, 14, 96)


def test_without_a_last_activation_the_decoder_gives_negative_values():
    torch.manual_seed(0)
    feature = torch.randn(4, 8, 9, 9)
    assert last_activation(feature) == "none" and last_activation(feature.relu()) == "relu"
    results = {name: make_bottleneck((8, 9, 9), 4, 2, activation=name).train()(feature) for name in ("relu", "none")}
    assert results["relu"].min() >= 0 > results["none"].min()


def test_what_is_coded_is_never_negative():
    unit = published("segmentation", "S2", 4, 4, 33)
    assert unit.encoder(torch.randn(1, 16, 33, 33)).min() >= 0


@pytest.mark.parametrize("arguments,message", [
    (((16, 7, 7), 4, 5, PUBLISHED_LATE), "stride 5 .* 1, 2, 4"),
    (((197, 64), 4, 2), "stride 2: a feature of shape .197, 64. has no rows and columns"),
    (((1, 2, 3, 4), 4, 1), "no bottleneck is defined for a feature of shape"),
    (((16, 7, 7), 100_000_000, 1), "100000000 channels"),
    (((16, 7, 7), 4, 1, None, "tanh"), "unknown activation 'tanh', choose from relu, none"),
    (((16, 7, 7), 4, 1, None, "relu", None, "conv3"), f"unknown form of bottlenecks 'conv3', choose from {', '.join(FORMS)}"),
])
def test_what_cannot_be_built_is_one_clear_line(arguments, message):
    with pytest.raises(SpicError, match=message):
        make_bottleneck(*arguments)


def test_every_operating_point_has_a_defined_geometry():
    for point in load_points().values():
        geometry = find(point.task, point.benchmark).geometry_of(point)
        make_bottleneck((4, 33, 33), point.channels, point.stride, geometry)


def test_quantisation_rounds_half_to_even_and_comes_back_on_the_grid():
    feature = torch.tensor([0.0, 0.9, 1.0, 1.1, 3.0, 5.0])
    symbols = quantize(feature, 2.0)
    assert symbols.tolist() == [0, 0, 0, 1, 2, 2] and symbols.dtype == torch.int32
    assert dequantize(symbols, 2.0).tolist() == [0, 0, 0, 2, 4, 4]


@pytest.fixture(scope="module")
def artefacts():
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
def test_published_unit_gives_the_golden_values(path, artefacts):
    task, split_point, factor = path.stem.split("_")
    point, golden = POINTS[task, split_point, int(factor)], np.load(path)
    name = Artefact(point, "weights").name
    state = read_checkpoint((artefacts / name).read_bytes(), point, name).state
    channels, size = len(state["encoder.depthwise.weight"]), SIZES.get((task, point.location), 65)
    geometry = find(task, PUBLISHED[task]).geometry[point.location]
    unit = make_bottleneck((channels, size, size), point.channels, point.stride, geometry).eval()
    unit.load_state_dict(state)

    symbols = quantize(unit.encoder(golden_input(channels, size)), point.step)
    assert symbols.shape[1:] == golden["symbols"].shape
    assert (symbols[0].numpy() != golden["symbols"]).mean() <= 1e-4

    decoded = unit.decoder(dequantize(torch.from_numpy(golden["symbols"])[None], point.step))[0].numpy()
    assert list(decoded.shape)[-3:] == list(golden["decoded_shape"])[-3:]
    scale = np.abs(golden["decoded_channel_mean"]).max()
    np.testing.assert_allclose(decoded.mean((1, 2)), golden["decoded_channel_mean"], rtol=1e-3, atol=1e-3 * scale)
    np.testing.assert_allclose(decoded[:8, :5, :5], golden["decoded_corner"], rtol=1e-3, atol=1e-3 * scale)
