"""Learned rivals: their bytes and shapes, what trains and what stays, resuming, files, and being absent."""

import copy
import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from spic import benchmarks
from spic.datasets.images import Preparation, normalise
from spic.rivals.learned import command
from spic.rivals.learned.recipes import RECIPES, Recipe
from spic.benchmarks import Benchmark, Source
from spic.errors import SpicError, StreamError
from spic.networks import cut
from spic.networks.narrow import deeplabv3_resnet50, resnet50
from spic.tasks import TASKS
from spic.record import read_results

SMALL = ("--hidden", "8", "--latent", "6", "--epochs", "1", "--refine", "1", "--epoch_size", "2", "--batch_size", "2",
         "--crop", "64", "--lambdas", "0.1", "0.2")


@pytest.fixture(scope="module")
def learned():
    """The modules that stand on compressai."""
    pytest.importorskip("compressai", reason="compressai is not installed: pip install -e .[learned]")
    from spic.rivals.learned import codec, lessons, networks, store, training

    modules = dict(codec=codec, lessons=lessons, networks=networks, store=store, training=training)
    return type("Learned", (), modules)


class Pictures:
    """Three noisy pictures of 80 by 72 pixels, two classes."""

    num_classes, image_size = 2, (80, 72)

    def __init__(self, count=3):
        self.count = count

    def __len__(self):
        return self.count

    def pixels(self, index):
        return np.random.default_rng(index).integers(60 * (index % 2), 200, (*self.image_size, 3), dtype=np.uint8)

    def label(self, index):
        return index % 2


@functools.cache
def _backbone():
    torch.manual_seed(0)
    return resnet50(0.25, 2).eval().requires_grad_(False)


def backbone():
    """A narrow ResNet with random weights, always the same ones."""
    return copy.deepcopy(_backbone())


@pytest.fixture
def tiny(monkeypatch, learned):
    """A benchmark called tiny: random pictures, a narrow ResNet with random weights."""
    entry = Benchmark("classification", "tiny", "narrow:resnet50/0.25", 2, Preparation(80, 72),
                      lambda valdir, limit: Pictures(), tuple, source=Source(lambda data, split, limit: Pictures()))
    monkeypatch.setitem(benchmarks.benchmarks(), ("classification", "tiny"), entry)
    monkeypatch.setattr(Benchmark, "build_network", lambda self, weights=None: backbone())
    return entry


def run(verb, *words):
    return command.main([verb, "--task", "classification", "--benchmark", "tiny", *map(str, words)])


def train(model, folder, *words):
    own = ("--finetune_epochs", 1) if model == "student" else ()
    return run("train", "--model", model, "--runs", folder / "runs", "--output", folder, *SMALL, *own, *words)


def evaluate(folder, *words):
    code = run("evaluate", "--weights", folder, "--cache", folder / "cache", "--workers", 1,
               "--output", folder / "out.json", *words)
    return code, read_results([folder / "out.json"])


def coder(learned, model, **sizes):
    """An untrained rival that is ready to code."""
    torch.manual_seed(1)
    network = learned.networks.NETWORKS[model](**sizes).eval()
    network.update(force=True, update_quantiles=True)
    recipe = dataclasses.asdict(dataclasses.replace(RECIPES[model, "classification"], lambdas=(0.1,)))
    return learned.codec.LearnedCodec(learned.store.Trained(model, (network,), recipe, None, "abc"))


SIZES = {"variational": dict(N=8, M=6), "hyperprior": dict(N=8, M=6),
         "student": dict(hidden=8, latent=6, channels=16, halvings=3)}


# --- bytes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model, header", [("variational", 5), ("hyperprior", 9), ("student", 5)])
def test_what_is_decoded_is_what_the_network_makes_of_rounded_latents(learned, model, header):
    codec, image = coder(learned, model, **SIZES[model]), Pictures().pixels(1)[:67, :45]
    data = codec.encode(image, 0)
    network = codec.networks[0]
    with torch.no_grad():
        expected = network(network.inputs(image))[network.output]
    assert np.allclose(codec.decode(data), network.received({network.output: expected}, 67, 45), atol=1e-4)
    assert codec.parts(data) == (len(data) - header, header, 0)


@pytest.mark.parametrize("model", ["variational", "hyperprior"])
@pytest.mark.parametrize("height, width", [(16, 16), (17, 63), (1, 90)])
def test_pictures_come_back_in_their_size(learned, model, height, width):
    codec = coder(learned, model, **SIZES[model])
    image = np.full((height, width, 3), 90, np.uint8)
    assert codec.decode(codec.encode(image, 0)).shape == image.shape


def test_payload_agrees_with_the_information_content(learned):
    codec, image = coder(learned, "variational", N=8, M=32), Pictures().pixels(0)
    network = codec.networks[0]
    with torch.no_grad():
        likelihood = network(network.inputs(image))["likelihoods"]["y"]
    bits = -likelihood.log2().sum().item()
    coded = 8 * codec.parts(codec.encode(image, 0)).payload
    assert bits < coded < 1.02 * bits + 64  # the state of the coder ends each string


def test_headers_that_were_not_written_here_are_refused(learned):
    codec = coder(learned, "hyperprior", **SIZES["hyperprior"])
    data = codec.encode(Pictures().pixels(0), 0)
    damaged = (b"\x01" + data[1:], data[:1] + b"\xff" * 4 + data[5:], data[:5] + b"\xff" * 4)
    for wrong in (b"", data[:8], data[:12], *damaged):
        with pytest.raises(StreamError):
            codec.decode(wrong)


@pytest.mark.parametrize("side", [(64, 64), (65, 97), (80, 72), (33, 40)])
def test_the_students_feature_has_the_shape_of_the_networks(learned, side):
    front, *_ = cut(backbone(), "layer2.3", torch.zeros(1, 3, 128, 128))
    sizes = learned.networks.Student.architecture(front, 8, 6)
    codec = coder(learned, "student", **sizes)
    image = np.zeros((*side, 3), np.uint8)
    with torch.no_grad():
        expected = front(torch.zeros(1, 3, *side)).shape[1:]
    assert codec.decode(codec.encode(image, 0)).shape == expected


def test_a_feature_of_another_geometry_cannot_be_replaced(learned):
    with pytest.raises(SpicError, match="--cut"):
        learned.networks.Student.architecture(nn.AdaptiveAvgPool2d(5), 8, 6)


def test_edge_cost_counts_the_encoder_alone(learned):
    codec = coder(learned, "student", hidden=8, latent=6, channels=16, halvings=2)
    expected = (8 * 75 + 8) + (8 * 200 + 8) + 6 * 32  # BatchNorm is folded into biases
    macs = 32 * 32 * 8 * 75 + 16 * 16 * 8 * 200 + 15 * 15 * 6 * 32
    assert codec.edge_cost((64, 64)) == {"edge_parameters": expected, "edge_macs": macs}


# --- lessons -----------------------------------------------------------------------------------------------------


def batch():
    torch.manual_seed(2)
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.tensor([0, 1])


def recipe(**changes):
    return dataclasses.replace(RECIPES["student", "classification"], hidden=8, latent=6, crop=64, **changes)


def student(learned, network, chosen):
    return learned.networks.Student(**learned.networks.Student.architecture(cut(network, chosen.cut, torch.zeros(1, 3, 128, 128))[0], 8, 6))


def steps(learned, lesson, count):
    optimizer = torch.optim.Adam(lesson.groups, lr=1e-3)
    return [learned.training._step(lesson, optimizer, batch())["loss"] for _ in range(count)]


def different(module, state):
    """Names of the parameters and buffers that are not those of ``state``."""
    return [name for name, value in module.state_dict().items() if not torch.equal(value, state[name])]


@pytest.mark.parametrize("model, weight", [("variational", 0.01), ("hyperprior", 0.01), ("student", 0.1)])
def test_the_first_lesson_lowers_its_loss_and_leaves_the_network_alone(learned, model, weight):
    network, chosen = backbone(), recipe()
    before = copy.deepcopy(network.state_dict())
    trainee = student(learned, network, chosen) if model == "student" else learned.networks.NETWORKS[model](N=8, M=6)
    losses = steps(learned, learned.lessons.LESSONS[model][0](trainee, weight, network, chosen), 8)
    assert losses[-1] < 0.95 * losses[0]
    assert not different(network, before)


def test_a_perfect_student_has_no_error(learned):
    network, chosen = backbone(), recipe()
    lesson = learned.lessons.Distilling(student(learned, network, chosen), 0.5, network, chosen)
    front = lesson.front
    lesson.learning["model"] = lambda x: {"feature": front(x), "likelihoods": {"y": torch.full((16,), 0.25)}}
    terms = lesson.loss(*batch())
    assert terms["error"] == 0 and terms["bpp"] == 32 / (2 * 64 * 64) and terms["loss"] == 0.5 * terms["bpp"]


@pytest.mark.parametrize("finetune, learns", [("decoder", {"decoder"}), ("all", {"decoder", "rest"})])
def test_the_second_lesson_changes_what_it_says(learned, finetune, learns):
    network, chosen = backbone(), recipe(finetune=finetune)
    trainee = student(learned, network, chosen)
    trainee.update(force=True, update_quantiles=True)
    if finetune == "all":
        trainee.rest = cut(copy.deepcopy(network), chosen.cut, torch.zeros(1, 3, 64, 64))[1]
    before = copy.deepcopy(trainee.state_dict())
    losses = steps(learned, learned.lessons.Finetuning(trainee, 1.0, network, chosen, TASKS["classification"].loss), 4)
    assert {name.split(".")[0] for name in different(trainee, before)} == learns and losses[-1] < losses[0]


def test_segmentation_learns_from_masks(learned):
    torch.manual_seed(0)
    network = deeplabv3_resnet50(0.25, 3).eval().requires_grad_(False)
    chosen = dataclasses.replace(RECIPES["student", "segmentation"], hidden=8, latent=6, crop=64)
    trainee = student(learned, network, chosen)
    images, _ = batch()
    masks = torch.randint(0, 4, (2, 64, 64))  # class 3 is none of the network's
    first = learned.lessons.Distilling(trainee, 0.1, network, chosen).loss(images, masks)
    second = learned.lessons.Finetuning(trainee, 0.1, network, chosen, TASKS["segmentation"].loss).loss(images, masks)
    assert first["loss"].isfinite() and second["task"].isfinite() and second["loss"].requires_grad


def test_densities_keep_full_precision(learned):
    density = learned.networks.Density(4)
    latent = torch.linspace(-3, 3, 64).view(1, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        _, likelihood = density.eval()(latent.bfloat16())
    _, expected = density(latent.bfloat16().float())
    assert likelihood.dtype == torch.float32 and torch.equal(likelihood, expected)


# --- the commands ------------------------------------------------------------------------------------------------


def test_from_training_to_curves(tiny, tmp_path, learned):
    from spic.curves.comparison import read

    assert train("variational", tmp_path) == 0
    assert train("student", tmp_path) == 0
    code, found = evaluate(tmp_path)
    assert code == 0 and set(found.missing) == {"Scale hyperprior"} and len(found.records) == 4
    for record in found.records:
        assert record.images == 3 and record.costs.edge_macs > 0 and record.costs.edge_seconds > 0
        assert record.bpp == pytest.approx(8 * record.bytes_per_image / (80 * 72))
        assert record.bpp_wire == pytest.approx(record.bpp + 8 * 5 / (80 * 72))
        assert record.baseline == found.records[0].baseline
    assert [record.more["lambda"] for record in found.records] == [0.1, 0.2] * 2
    curves = read([tmp_path / "out.json"]).curves
    assert {curve.name: len(curve.points) for curve in curves} == {"Variational": 2, "Entropic Student": 2}


def test_files_hold_half_precision_and_code_the_same_bytes_when_read(tiny, tmp_path, learned):
    assert train("variational", tmp_path) == 0
    first, second = (learned.store.read(tmp_path, tiny, "variational") for _ in range(2))
    image = Pictures().pixels(2)
    coded = [learned.codec.LearnedCodec(trained).encode(image, 1) for trained in (first, second)]
    assert coded[0] == coded[1]
    assert all(torch.equal(p, p.half().float()) for network in first.networks for p in network.parameters())
    fresh = copy.deepcopy(first.networks[1])
    fresh.update(force=True)
    assert torch.equal(fresh.entropy_bottleneck.quantized_cdf, first.networks[1].entropy_bottleneck.quantized_cdf)


@pytest.mark.parametrize("model, codes", [("variational", [130, 0, 0]), ("student", [130, 130, 0])])
def test_an_interrupted_run_ends_with_the_same_weights(tiny, tmp_path, monkeypatch, learned, model, codes):
    words = ("--epochs", 2, "--epoch_size", 4, *(("--finetune_epochs", 2) if model == "student" else ()))
    assert train(model, tmp_path / "whole", *words) == 0
    plain, calls = learned.training._step, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) in (4, 9):
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(learned.training, "_step", interrupted)
    assert [train(model, tmp_path / "parts", *words) for _ in range(3)] == codes
    files = sorted((tmp_path / "whole" / "Weights" / "tiny" / "rivals").glob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        assert file.read_bytes() == (tmp_path / "parts" / file.relative_to(tmp_path / "whole")).read_bytes()


def test_a_fine_tuned_rest_travels_with_the_student(tiny, tmp_path, learned):
    assert train("student", tmp_path, "--finetune", "all") == 0
    (network, _) = learned.store.read(tmp_path, tiny, "student").networks
    _, plain, _ = cut(backbone(), "layer2.3", torch.zeros(1, 3, 72, 72))
    changed = different(network.rest, plain.state_dict())
    assert any(name.endswith("conv2.weight") for name in changed)
    assert not any("running" in name for name in changed)
    code, found = evaluate(tmp_path, "--models", "student")
    assert code == 0 and len(found.records) == 2


def test_decoded_features_go_to_the_rest_and_pictures_to_the_whole_network(learned):
    network = backbone()
    front, rest, _ = cut(network, "layer2.3", torch.zeros(1, 3, 80, 72))
    road = learned.codec.StudentRival(Pictures(), network, rest=rest)
    pixels = [Pictures().pixels(index) for index in (0, 1)]
    with torch.no_grad():
        features = [front(normalise(image[None]))[0].numpy() for image in pixels]
        assert torch.allclose(road.cloud(features), road.cloud(pixels), atol=1e-4)


# --- what is not there, and bad input ----------------------------------------------------------------------------


def test_untrained_rivals_are_named_and_nothing_breaks(tiny, tmp_path, capsys):
    code, found = evaluate(tmp_path)
    assert code == 0 and found.records == () and set(found.missing) == {"Variational", "Scale hyperprior", "Entropic Student"}
    reason = found.missing["Entropic Student"]
    assert reason.startswith("Weights/") and "train it: spic rivals learned train --model student" in reason
    assert capsys.readouterr().err.count("left out: ") == 3


def test_altered_files_and_other_networks_are_missing_rivals(tiny, tmp_path, monkeypatch):
    assert train("variational", tmp_path) == train("student", tmp_path) == 0
    file = tmp_path / "Weights" / "tiny" / "rivals" / "classification_variational_1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(Benchmark, "build_network", lambda self, weights=None: resnet50(0.25, 2).eval())
    code, found = evaluate(tmp_path)
    assert code == 0 and found.records == ()
    assert "truncated or altered" in found.missing["Variational"]
    assert "other weights of the network" in found.missing["Entropic Student"]


def test_without_compressai_training_ends_in_one_line_and_evaluation_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "compressai", None)
    monkeypatch.setitem(sys.modules, "compressai.models", None)
    words = ["--task", "classification", "--benchmark", "scenes"]
    assert command.main(["train", "--model", "student", *words, "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "pip install -e .[learned]" in error
    assert command.main(["evaluate", *words, "--output", str(tmp_path / "out.json")]) == 0
    missing = json.loads((tmp_path / "out.json").read_text())["missing"]
    assert list(missing) == ["Variational", "Scale hyperprior", "Entropic Student"] and "compressai" in missing["Variational"]


@pytest.mark.parametrize("words, message", [
    (["--lr", "0"], "--lr 0.0"), (["--lambdas", "-1"], "--lambdas -1.0"), (["--lambdas"], "--lambdas"),
    (["--crop", "73"], "--crop 73"), (["--crop", "40"], "--crop 40: must be a multiple of 16"),
    (["--hidden", "4000"], "--hidden 4000"),
    (["--cut", "layer2.3"], "--cut: only --model student"), (["--finetune", "all"], "--finetune: only --model student"),
])
def test_options_out_of_range_are_one_line(tiny, tmp_path, capsys, words, message):
    assert train("variational", tmp_path, *words) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_every_recipe_has_at_least_four_rates():
    assert all(isinstance(recipe, Recipe) and len(recipe.lambdas) >= 4 for recipe in RECIPES.values())
