"""The fit loop on a small network: what learns, what stays, resuming, and what stops it."""

import copy
import json

import pytest
import torch
from torch import nn

from spic.bottleneck import make_bottleneck
from spic.errors import SpicError
from spic.networks import cut, resnet50
from spic.training.checkpoint import Run
from spic.training.distortion import Answer, answer, distill_loss, task_loss
from spic.training.features import FeatureSet
from spic.training.fit import Options, fit, identity

CHANNELS = 256  # of layer4 at an eighth of the width


@pytest.fixture(scope="module")
def back():
    torch.manual_seed(0)
    return cut(resnet50(0.125, 5).eval(), "S2")[1]


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
    return make_bottleneck("classification", "S2", CHANNELS, 4, 2)


def options(**changes):
    return Options(**{"step": 0.5, "weight": 10.0, "epochs": 2, "batch_size": 20, **changes})


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_only_the_bottleneck_and_the_estimator_learn(back, data):
    before, bottleneck = copy.deepcopy(back), new_bottleneck()
    fit(bottleneck, back, data, options(rate="hyperprior"), quiet=True)
    assert same(back, before), "the frozen back changed, parameters or BatchNorm statistics"
    assert not same(bottleneck, new_bottleneck())


@pytest.mark.parametrize("distortion", ["task", "distill"])
def test_the_distortion_falls(back, data, distortion, tmp_path):
    fit(new_bottleneck(), back, data, options(distortion=distortion, epochs=6), log=tmp_path / "log", quiet=True)
    records = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[-1]["distortion"] < records[0]["distortion"]


def test_a_larger_lambda_buys_fewer_bits(back, data):
    bpp = []
    for weight in (0.0, 3000.0):
        trainee = fit(new_bottleneck(), back, data, options(weight=weight, epochs=8), quiet=True)
        with torch.no_grad():
            bpp.append(trainee(data.features.float(), data.targets).bpp.item())
    assert bpp[1] < 0.8 * bpp[0]


def test_distill_reads_no_label(back, data):
    unlabelled = FeatureSet(data.features, None, data.image_size)
    fit(new_bottleneck(), back, unlabelled, options(distortion="distill"), quiet=True)


def test_the_same_seed_gives_the_same_bottleneck(back, data):
    first, second = new_bottleneck(), new_bottleneck()
    for bottleneck in (first, second):
        fit(bottleneck, back, data, options(), quiet=True)
    assert same(first, second)


def test_a_resumed_run_ends_like_an_uninterrupted_one(back, data, tmp_path):
    whole, resumed, chosen = new_bottleneck(), new_bottleneck(), options(epochs=3)
    fit(whole, back, data, chosen, quiet=True)

    class Cut(Exception):
        pass

    class Interrupted(Run):
        def save(self, done, **parts):
            super().save(done, **parts)
            if done == 2:
                raise Cut

    with pytest.raises(Cut):
        fit(resumed, back, data, chosen, Interrupted(tmp_path / "run.pt", identity(chosen)), quiet=True)
    resumed = new_bottleneck()
    fit(resumed, back, data, chosen, Run(tmp_path / "run.pt", identity(chosen)), quiet=True)
    assert same(whole, resumed)


def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(back, data, tmp_path):
    fit(new_bottleneck(), back, data, options(), Run(tmp_path / "run.pt", identity(options())), quiet=True)
    other = options(weight=20.0)
    with pytest.raises(SpicError, match="weight is 10.0 there and 20.0 here"):
        fit(new_bottleneck(), back, data, other, Run(tmp_path / "run.pt", identity(other)), quiet=True)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "run.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(SpicError, match="run.pt: not a readable checkpoint"):
        Run(tmp_path / "run.pt", {}).restore()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(back, data, tmp_path):
    run = Run(tmp_path / "run.pt", {})
    fit(new_bottleneck(), back, data, options(epochs=1), run, quiet=True)
    good = run.path.read_bytes()
    broken = FeatureSet(torch.full_like(data.features, float("nan")), data.targets, data.image_size)
    with pytest.raises(SpicError, match="epoch 2, batch 1"):
        fit(new_bottleneck(), back, broken, options(epochs=2), run, quiet=True)
    assert run.path.read_bytes() == good


def test_answer_is_the_network_and_its_last_hidden_layer(back, data):
    feature = data.features[:2].float()
    found = answer(back, feature)
    assert torch.equal(found.logits, back(feature)) and found.hidden.shape[1] == CHANNELS


def test_task_loss_scores_masks_but_not_unknown_classes():
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 2] = 30
    mask = torch.full((1, 8, 8), 2, dtype=torch.int16)
    mask[:, :4] = 255
    assert task_loss(Answer(logits, logits), mask).item() == pytest.approx(0, abs=1e-4)


def test_distill_loss_of_the_teacher_itself_is_zero():
    one = Answer(torch.randn(3, 5), torch.randn(3, 8))
    assert distill_loss(one, one).item() == pytest.approx(0, abs=1e-6)
