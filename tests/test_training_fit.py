"""The fit loop on a small network: what learns, what stays, resuming, and what stops it."""

import copy
import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from spic.bottleneck import PUBLISHED_LATE, make_bottleneck
from spic.errors import SpicError
from spic.networks import cut
from spic.networks.narrow import resnet50
from spic.tasks import TASKS
from spic.training import fit as fitting
from spic.training.checkpoint import Run
from spic.training.distortion import Output, distill_loss
from spic.training.features import FeatureSet
from spic.training.fit import LINES, Options, batches, batches_per_epoch, fit, identity
from spic.training.schedule import BOTTLENECK

CHANNELS = 256  # of layer4 at an eighth of the width
LOSS = TASKS["classification"].loss


@pytest.fixture(scope="module")
def back():
    torch.manual_seed(0)
    return cut(resnet50(0.125, 5).eval(), "layer4.0", torch.zeros(1, 3, 96, 96))[1]


@pytest.fixture(scope="module")
def data():
    """Features of five classes: each has its own active channels."""
    torch.manual_seed(1)
    labels = torch.arange(80) % 5
    features = torch.randn(80, CHANNELS, 3, 3).relu()
    for i, label in enumerate(labels):
        features[i, label * 50:label * 50 + 50] += 2
    return FeatureSet(features.bfloat16(), labels.to(torch.int16), (96, 96))


def new_bottleneck():
    torch.manual_seed(2)
    return make_bottleneck((CHANNELS, 3, 3), 4, 2, PUBLISHED_LATE)


def options(**changes):
    return Options(**{"step": 0.5, "weight": 10.0, "steps": 8, "batch_size": 20, **changes})


def trained(back, data, chosen=None, **more):
    bottleneck = new_bottleneck()
    fit(bottleneck, back, data, chosen or options(), LOSS, **more)
    return bottleneck


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_only_the_bottleneck_and_the_estimator_learn(back, data):
    before = copy.deepcopy(back)
    bottleneck = trained(back, data, options(rate="hyperprior"))
    assert same(back, before), "the frozen back changed, parameters or BatchNorm statistics"
    assert not same(bottleneck, new_bottleneck())


@pytest.mark.parametrize("distortion", ["task", "distill"])
def test_the_distortion_falls_and_the_log_has_lines_at_even_distances(back, data, distortion, tmp_path):
    trained(back, data, options(distortion=distortion, steps=60), log=tmp_path / "log")
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    steps = [record["step"] for record in records]
    assert len(steps) == LINES and steps[-1] == 60 and {b - a for a, b in pairwise(steps)} == {1, 2}
    assert records[-1]["distortion"] < records[0]["distortion"]


def test_a_larger_lambda_buys_fewer_bits(back, data):
    bpp = []
    for weight in (0.0, 3000.0):
        trainee = fit(new_bottleneck(), back, data, options(weight=weight, steps=32), LOSS)
        with torch.no_grad():
            bpp.append(trainee(data.features.float(), data.targets).bpp.item())
    assert bpp[1] < 0.8 * bpp[0]


def test_distill_reads_no_label_and_asks_no_loss(back, data):
    unlabelled = FeatureSet(data.features, None, data.image_size)
    fit(new_bottleneck(), back, unlabelled, options(distortion="distill"), None)


def test_the_same_seed_gives_the_same_bottleneck(back, data):
    assert same(trained(back, data, options(rate="factorized")), trained(back, data, options(rate="factorized")))


class Cut(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.parametrize("rate", ["table", "hyperprior", "context"])
@pytest.mark.parametrize("when", [1, 5, 8])
def test_a_run_resumed_anywhere_ends_like_an_uninterrupted_one(back, data, tmp_path, monkeypatch, when, rate):
    """Also its log, where no line stands twice."""
    chosen = options(steps=12, rate=rate)
    whole = trained(back, data, chosen, log=tmp_path / "whole.jsonl")
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", -1.0)

    class Interrupted(Run):
        def save(self, done, **parts):
            if done > when:  # one step behind the last checkpoint, whose line is in the log
                raise Cut
            super().save(done, **parts)

    def run(kind):
        return {"run": kind(tmp_path / "run.pt", identity(chosen)), "log": tmp_path / "resumed.jsonl"}

    with pytest.raises(Cut):
        trained(back, data, chosen, **run(Interrupted))
    assert same(whole, trained(back, data, chosen, **run(Run)))
    lines = [[{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in file.read_text().splitlines()]
             for file in (tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl")]
    assert lines[0] == lines[1] and len(lines[0]) == 12


def test_a_finished_run_is_restored_without_a_step(back, data, tmp_path, monkeypatch):
    whole = trained(back, data, run=Run(tmp_path / "run.pt", {}))
    monkeypatch.setattr(fitting, "_learn", None)
    assert same(whole, trained(back, data, run=Run(tmp_path / "run.pt", {})))


def test_steps_are_those_of_the_epochs_that_recipes_were_written_in(data):
    """A last batch too small for BatchNorm is left out, each epoch has an order of its own, resumed or not."""
    assert [batches_per_epoch(n, 64) for n in (12_000, 300, 64, 70, 96, 5)] == [188, 5, 1, 1, 2, 1]
    plan = list(batches(data, options(steps=10)))
    assert [step for step, _, _ in plan] == list(range(10))
    for epoch in (plan[:4], plan[4:8]):
        assert sorted(torch.cat([indices for _, indices, _ in epoch]).tolist()) == list(range(80))
    assert not torch.equal(plan[0][1], plan[4][1])
    resumed = list(batches(data, options(steps=10), first=6))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(plan[6:], resumed, strict=True))


def test_windows_lie_where_they_lay_when_a_run_is_resumed():
    moving = FeatureSet(torch.rand(40, 2, 9, 9), None, (65, 65), window=4)
    whole, resumed = (list(batches(moving, options(steps=10), first)) for first in (0, 3))
    assert [place for *_, place in whole[3:]] == [place for *_, place in resumed]
    assert len({place for *_, place in whole}) > 5


def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(back, data, tmp_path):
    trained(back, data, run=Run(tmp_path / "run.pt", identity(options())))
    other = options(weight=20.0)
    with pytest.raises(SpicError, match="weight is 10.0 there and 20.0 here"):
        trained(back, data, other, run=Run(tmp_path / "run.pt", identity(other)))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(back, data, tmp_path):
    run = Run(tmp_path / "run.pt", {})
    trained(back, data, options(steps=4), run=run)
    good = run.path.read_bytes()
    broken = FeatureSet(torch.full_like(data.features, float("nan")), data.targets, data.image_size)
    with pytest.raises(SpicError, match="no longer a number in step 1 of 8 .*lower --lr"):
        trained(back, broken, run=Run(tmp_path / "other.pt", {}))
    assert run.path.read_bytes() == good and not (tmp_path / "other.pt").exists()


def test_one_picture_is_not_enough(back, data):
    with pytest.raises(SpicError, match="one picture is not enough"):
        trained(back, FeatureSet(data.features[:1], data.targets[:1], data.image_size))


def test_distill_loss_of_the_teacher_itself_is_zero():
    for hidden in (torch.randn(3, 8), None):
        one = Output(torch.randn(3, 5), hidden)
        assert float(distill_loss(one, one)) == pytest.approx(0, abs=1e-6)


def test_distill_loss_without_a_hidden_feature_is_that_of_the_answers_alone():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    assert distill_loss(Output(student, None), Output(teacher, None)) > 0
    assert distill_loss(Output(student, torch.ones(3, 2)), Output(teacher, torch.ones(3, 2))) == \
        distill_loss(Output(student, None), Output(teacher, None))


@pytest.mark.parametrize("shape, image_size", [((4, 4, 24), (32, 32)), ((17, 24), (32, 32)), ((24,), (32, 32))])
def test_features_of_any_shape_are_learned(shape, image_size):
    """[B, H, W, C], tokens and vectors, before a back that takes just them."""
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(shape[-1], 5)
            self.mean = nn.Identity() if len(shape) == 1 else nn.Flatten(1, -2)
            self.pool = nn.Identity() if len(shape) == 1 else nn.AdaptiveAvgPool2d((1, shape[-1]))

        def forward(self, x):
            x = self.first(x).flatten(1)[:, :torch.Size(shape).numel()].unflatten(1, shape).tanh()
            return self.fc(self.pool(self.mean(x).unsqueeze(1)).flatten(1))

    torch.manual_seed(0)
    network = Network().eval()
    front, back, frontier = cut(network, "tanh", torch.zeros(1, 3, *image_size))
    features = front(torch.randn(40, 3, *image_size)).detach()
    data = FeatureSet(features, None, image_size)
    assert data.shape == shape and not data.in_planes
    bottleneck = make_bottleneck(shape, 6, 1, None, "none", image_size)
    trainee = fit(bottleneck, back, data, Options(0.5, 0.0, distortion="distill", steps=60, batch_size=20))
    terms = trainee.history.terms
    assert terms[-5:, 0].mean() < 0.7 * terms[:5, 0].mean()


def test_the_learning_rate_rises_and_falls_to_a_hundredth():
    rates = [BOTTLENECK(i / 100, 1.0) for i in range(101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1, abs=0.01) and rates[-1] == pytest.approx(0.01)
