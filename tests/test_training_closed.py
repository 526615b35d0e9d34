"""Bottlenecks without training: known answers behind a linear rest, any network by the command, bad input in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import fx, nn

from spic.bottleneck import LINEAR, RECTIFIED, Frequencies, Planes, cosines, make_bottleneck
from spic.errors import SpicError
from spic.networks.cut import cut
from spic.pipeline import Cloud, Edge
from spic.points import load_points
from spic.training.closed import closed_form, find_directions
from spic.training.command import main
from spic.training.features import FeatureSet
from spic.training.jobs import Curve

NETWORK = '''
import torch
from torch import nn
from spic.datasets.images import Preparation

NUM_CLASSES, PREPARATION = 5, Preparation(40, 32)

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 12, 3, 4, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(16, 5))
'''


def halves(network: nn.Module, after: str, image: tuple[int, int] = (16, 16)) -> tuple[nn.Module, fx.GraphModule]:
    front, back, _ = cut(network, after, torch.zeros(1, 3, *image))
    return front, back


def pooled(classes: int = 6, channels: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, channels, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def features_of(network: nn.Module, after: str, count: int = 200) -> tuple[FeatureSet, fx.GraphModule]:
    front, back = halves(network, after)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        features = front(torch.randn(count, 3, 16, 16, generator=generator))
    return FeatureSet(features, None, (16, 16)), back


def test_frequencies_are_orthonormal_and_the_first_is_the_mean():
    waves = cosines(7, 7)
    assert torch.allclose(waves @ waves.T, torch.eye(7), atol=1e-6)
    maps = torch.randn(2, 3, 7, 5)
    every, lowest = (Frequencies(Planes((3, 7, 5), False), stride) for stride in (1, 7))
    assert torch.allclose(every.back(every(maps)), maps, atol=1e-5)
    assert lowest.shape == (1, 1) and torch.allclose(lowest(maps)[..., 0, 0], maps.mean((2, 3)) * 35 ** 0.5, atol=1e-5)


def test_where_only_the_means_count_one_number_a_channel_is_kept():
    data, back = features_of(pooled(), "0")
    directions = find_directions(data, back)
    assert directions.stride == 4 and directions.scale.shape == (10, 1, 1)


def test_behind_a_linear_rest_the_few_directions_of_its_answers_lose_nothing():
    """Six logits whose mean does not count have five directions: the answers come back, and unit steps move them by 1."""
    data, back = features_of(pooled(), "0")
    bottleneck = closed_form(find_directions(data, back), 5, "none")
    with torch.no_grad():
        there, here = back(data.features), back(bottleneck(data.features))
        y = bottleneck.encoder(data.features)
        moved = back(bottleneck.decoder.place(bottleneck.decoder(y + torch.eye(5)[:, None, :, None, None][2])))
    centred = [logits - logits.mean(1, keepdim=True) for logits in (there, here, moved)]
    assert torch.allclose(centred[0], centred[1], atol=1e-3 * float(there.std()) + 1e-4)
    assert torch.allclose((centred[2] - centred[1]).norm(dim=1), torch.ones(200), atol=1e-2)
    assert y.mean(0).abs().max() < 1e-4, "the mean of all features is 0"
    assert torch.all(y.var(0).flatten().diff() <= 1e-6), "the most important direction comes first"


def test_the_principal_directions_lose_less_than_others_of_their_number():
    data, back = features_of(pooled(12, 24), "0", 400)
    directions = find_directions(data, back)

    def loss(bottleneck) -> float:
        with torch.no_grad():
            there, here = back(data.features), back(bottleneck(data.features))
        return float((there - here - (there - here).mean(1, keepdim=True)).pow(2).mean())

    best = loss(closed_form(directions, 3, "none"))
    torch.manual_seed(0)
    for _ in range(5):
        turn = torch.linalg.qr(torch.randn(24, 24))[0]
        other = closed_form(directions, 3, "none")
        with torch.no_grad():  # three other directions, and the best linear guess from them
            x = (data.features.mean((2, 3)) * 4).double()
            x = x - x.mean(0)
            seen = turn[:3].double()
            covariance = x.T @ x
            other.encoder.directions.copy_(seen)
            other.encoder.scale.fill_(1), other.decoder.gain.fill_(1)
            other.encoder.offset.copy_((seen @ (data.features.mean((0, 2, 3)) * 4).double())[:, None, None])
            other.decoder.directions.copy_(covariance @ seen.T @ torch.linalg.inv(seen @ covariance @ seen.T))
        assert best < loss(other)


@pytest.mark.parametrize("shape,image", [((9, 4, 4), (16, 16)), ((4, 4, 9), (16, 16)), ((5, 9), (16, 16)), ((9,), (16, 16))])
def test_features_of_every_layout_come_back_where_nothing_is_left_out(shape, image):
    torch.manual_seed(0)
    unit = make_bottleneck(shape, 9, 1, None, "none", image, LINEAR).eval()
    turn = torch.linalg.qr(torch.randn(9, 9))[0]
    with torch.no_grad():
        unit.encoder.directions.copy_(turn), unit.decoder.directions.copy_(turn.T)
    feature = torch.randn(3, *shape)
    assert torch.allclose(unit(feature), feature, atol=1e-5) and unit.encoder(feature).shape[1:] == unit.encoder.shape


def test_a_window_of_the_feature_is_refused():
    decoder = make_bottleneck((9, 8, 8), 4, 2, form=LINEAR).decoder
    with pytest.raises(SpicError, match="cannot learn on windows"):
        decoder.place(torch.zeros(1, 9, 8, 8), (5, 5))


def test_rectified_the_largest_logits_come_back_and_the_others_are_as_on_average():
    network = pooled(40, 60)
    data, back = features_of(network, "0", 300)
    bottleneck = closed_form(find_directions(data, back, RECTIFIED), 40, "none")
    with torch.no_grad():
        y = bottleneck.encoder(data.features)
        there, here = back(data.features), back(bottleneck(data.features))
    there, sent = there - there.mean(1, keepdim=True), y[..., 0, 0] > 0
    risen = there - there.mean(0)
    threshold = float(risen[sent].min())
    assert not bottleneck.encoder.signed and bool((risen[~sent] <= threshold + 1e-3).all())
    assert 19 < float(sent.sum(1).float().mean()) < 21, "half of the forty"
    wanted = there.mean(0) + torch.where(sent, risen - threshold, 0)
    assert torch.allclose(here - here.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True), atol=2e-2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed")
    (folder / "mine.py").write_text(NETWORK)
    (folder / "photos").mkdir()
    generator = np.random.default_rng(0)
    for number in range(40):
        blocks = generator.integers(0, 255, (4, 5, 3)).astype(np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), np.uint8))).save(folder / "photos" / f"{number}.png")
    return folder


def train(files, output, *more) -> int:
    return main("classification", ["--network", f"{files / 'mine.py'}:small", "--data", str(files / "photos"), "--processes", "1",
                                   "--output", str(output), *more])


def test_the_command_makes_points_of_several_steps_that_edge_and_cloud_take(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    asked = ("--cut", "2", "--split_point", "late", "--steps", "0", "--step", "0.02", "0.2", "--channels", "4", "3")
    assert train(files, tmp_path / "out", *asked) == 0
    said = capsys.readouterr().out
    assert "step 0.02" in said and "(closed form)" in said and "nothing was trained" in said
    first, second = load_points(tmp_path / "out" / "dict.yaml").values()
    assert (first.form, first.step, first.channels, second.step, second.channels) == (LINEAR, 0.02, 4, 0.2, 3)
    point = first.with_tables("position")
    edge, cloud = Edge.load(point, "rans"), Cloud.load(point, "rans")
    cloud.open(edge.header)
    sent = edge(torch.randn(3, 3, 32, 32))
    received = cloud.receive(sent.frames)
    assert torch.equal(received.symbols, sent.symbols) and (sent.symbols < 0).any() and received.logits.shape == (3, 5)
    assert train(files, tmp_path / "out", *asked) == 2 and "already holds the run" in capsys.readouterr().err
    assert train(files, tmp_path / "out", *asked, "--resume") == 0 and "finished before" in capsys.readouterr().out


def test_a_training_starts_from_the_closed_form(files, tmp_path, monkeypatch):
    """No random weights: the answers are near from the first step on, and what is paid for them falls."""
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    more = ("--form", "linear", "--steps", "40", "--lambda", "3", "--lr", "0.0003", "--step", "0.05", "--channels", "6")
    assert train(files, tmp_path, "--cut", "0", "--split_point", "early", "--stride", "2", *more) == 0
    lines = [json.loads(line) for line in (tmp_path / "runs/classification/own/early/0.jsonl").read_text().splitlines()]
    assert lines[0]["distortion"] < 0.5 and lines[-2]["loss"] < lines[0]["loss"]
    assert lines[-1]["coded_bpp"] > 0 and "predicted_bpp" in lines[-1]


@pytest.mark.parametrize("more,words", [
    (("--steps", "0", "--lambda", "3"), "--lambda: nothing is trained with --steps 0"),
    (("--steps", "0", "--lr", "0.1"), "--lr: nothing is trained with --steps 0"),
    (("--steps", "0", "--form", "separable"), "only the forms linear and rectified have a closed solution"),
    (("--steps", "0", "--form", "conv2"), "a conv2 bottleneck needs steps"),
    (("--steps", "0", "--step", "1", "0"), "--step 0.0: must be a number above 0"),
    (("--steps", "0", "--channels", "17"), "17 channels, but there are 16 directions"),
    (("--steps", "0", "--form", "rectified", "--cut", "0"), "behind this cut more follows than one linear layer"),
    (("--form", "linear", "--rate", "hyperprior"), "--rate hyperprior: rates numbers without a sign"),
    (("--step", "1", "2", "--lambda", "1", "2", "3"), "step lists 2 numbers for 3 points"),
])
def test_bad_input_is_one_line(files, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.setenv("SPIC_CACHE", str(files / "cache"))
    assert train(files, tmp_path / "out", "--cut", "2", "--split_point", "late", *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and words in error


def test_a_curve_without_a_training_has_a_point_for_each_step():
    curve = Curve("classification", "own", "CS1", step=(1, 2, 4), steps=0, form=LINEAR, channels=8)
    assert [(job.factor, job.options.step, job.options.weight, job.parent) for job in curve.jobs()] == \
        [(0, 1.0, 0.0, None), (1, 2.0, 0.0, None), (2, 4.0, 0.0, None)]
