"""The grid of operating points, what one curve is made of, and what is written for each point."""

import json
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open

from spic.bottleneck import FORMS, PUBLISHED_LATE, make_bottleneck
from spic.coding.counting import KINDS
from spic.errors import SpicError
from spic.parts import load_table
from spic.points import SHARED, load_points
from spic.quantize import quantize
from spic.study import plan
from spic.training import grid
from spic.training.jobs import Curve, default_channels, default_stride
from spic.training.tables import count_tables, write_point


@pytest.mark.parametrize("benchmark, least", [("scenes", 6), ("imagenette", 4), ("camvid", 4)])
def test_the_grid_covers_every_split_point_with_falling_rates(benchmark, least):
    jobs = grid.read_grid(benchmark)
    for task in {job.task for job in jobs}:
        for split_point in ("S1", "S2", "S3", "US1", "US2"):
            row = sorted((job for job in jobs if job.key[:3] == (task, benchmark, split_point)), key=lambda job: job.factor)
            assert len(row) >= least
            for job, following in pairwise(row):  # fewer symbols, or a higher price for the bits of as many
                cheaper = (following.stride, -following.channels) > (job.stride, -job.channels)
                assert cheaper or following.options.weight > job.options.weight


def test_unsupervised_points_are_trained_without_labels_and_supervised_ones_with():
    for job in grid.read_grid("scenes"):
        assert job.options.distortion == ("distill" if job.split_point.startswith("U") else "task")


def test_every_point_starts_from_one_that_is_trained_before_it():
    for jobs in (grid.read_grid("scenes"), [trial.job for trial in plan.trials("imagenette")]):
        seen = set()
        for job in jobs:
            assert job.parent is None or (*job.key[:3], job.parent) in seen
            seen.add(job.key)


def test_shipped_recipes_are_the_epochs_they_were_trained_for():
    """188 batches of 64 in the 12,000 pictures of scenes, 46 of 8 in the 367 of CamVid; neighbours at half the rate."""
    first, second = (job for job in grid.read_grid("scenes") if job.name.startswith("classification/scenes/US2") and job.factor < 2)
    if first.factor:
        first, second = second, first
    assert (first.options.steps, second.options.steps) == (16 * 188, 4 * 188)
    assert (first.options.lr, second.options.lr) == (0.003, 0.0015) and second.parent == 0
    assert (first.options.seed, second.options.seed) == (0, 1)
    street, = (job for job in grid.read_grid("camvid") if job.name == "segmentation/camvid/S1/0")
    assert street.options.steps == 40 * 46


def test_an_unknown_benchmark_is_named_with_the_valid_ones():
    with pytest.raises(SpicError, match="unknown benchmark 'nowhere'.*scenes"):
        grid.read_grid("nowhere")


@pytest.mark.parametrize("names", [["S9"], ["S1", "S1/9"], ["US1/x"]])
def test_only_what_the_grid_has_is_asked_for(names, capsys):
    """`grid --only S9` did nothing, with exit code 0."""
    assert grid.main(["--only", *names]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert f"--only {names[-1]}: no such point" in line and "S1, S2, S3" in line


def test_a_task_that_the_grid_has_nothing_of_is_refused(capsys):
    assert grid.main(["--benchmark", "imagenette", "--task", "segmentation", "--only", "S1"]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert "nothing for segmentation; it has: classification" in line


def test_some_points_can_be_chosen():
    jobs = grid.read_grid("scenes")
    chosen = grid.chosen(jobs, ["classification"], ["S1/0", "US2"])
    assert [job.name.removeprefix("classification/scenes/") for job in chosen if job.factor < 2] == ["S1/0", "US2/0", "US2/1"]
    assert len(chosen) == 7


def test_a_row_with_an_unknown_key_is_refused():
    with pytest.raises(SpicError, match="classification mine S1: not a row of a grid .*epochs"):
        grid.curve_of("classification", "mine", "S1", {"lambdas": [1], "epochs": 3})


def test_lambdas_of_one_call_are_one_curve():
    jobs = list(Curve("classification", "own", "US1", (10.0, 50.0, 200.0, 800.0), steps=100, first=3, seed=2).jobs())
    assert [job.factor for job in jobs] == [3, 4, 5, 6] and [job.parent for job in jobs] == [None, 3, 3, 5]
    assert [job.options.steps for job in jobs] == [100, 50, 50, 50] and jobs[1].options.lr == jobs[0].options.lr / 2
    assert [job.options.seed for job in jobs] == [2000, 2001, 2002, 2003]
    assert {job.options.distortion for job in jobs} == {"distill"}


def test_a_point_of_another_geometry_starts_afresh():
    jobs = list(Curve("segmentation", "own", "S1", (1.0, 2.0, 3.0), stride=(2, 4, 4), channels=(8, 8, 8)).jobs())
    assert [job.parent for job in jobs] == [None, None, None]
    with pytest.raises(SpicError, match="stride lists 1 numbers for 2 points"):
        list(Curve("segmentation", "own", "S1", (1.0, 2.0), stride=(2,)).jobs())


@pytest.mark.parametrize("split_point, distortion", [("S2", "task"), ("US2", "distill"), ("middle", "distill"), ("S1x", "distill")])
def test_names_say_whether_labels_are_needed(split_point, distortion):
    job, = Curve("classification", "own", split_point, (1.0,)).jobs()
    assert job.options.distortion == distortion


def test_geometry_suits_the_feature():
    assert [default_stride(shape) for shape in [(64, 14, 14), (197, 768), (512,)]] == [2, 1, 1]
    assert [default_channels(c) for c in (2048, 160, 40, 6)] == [64, 20, 8, 6]
    assert [default_channels(2048, form) for form in FORMS] == [64, 64, 64, 64, 128, 2048]


def test_a_written_point_loads_checked_and_its_table_counts_the_symbols(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    bottleneck = make_bottleneck((16, 7, 7), 3, 2, PUBLISHED_LATE).eval()
    features = torch.randn(20, 16, 7, 7).relu()
    table = count_tables(bottleneck.encoder, features, 0.5, [SHARED])[SHARED]
    key, settings = ("classification", "mine", "S1", 0), {"network": "torchvision:resnet18", "cut": "layer4", "activation": "none"}
    write_point(bottleneck, table, key, tmp_path, settings, {"network": "abc", "image_size": "32x32"})
    point = load_points(tmp_path / "dict.yaml")[key]
    assert (point.network, point.cut, point.activation) == tuple(settings.values())
    with safe_open(point.weights, "pt") as file:
        assert file.metadata() == {"network": "abc", "image_size": "32x32"}
    read = load_table(point)
    with torch.inference_mode():
        symbols = quantize(bottleneck.encoder(features), 0.5)
    assert read.digest == table.digest and read.total == symbols.numel() == 20 * 3 * 4 * 4
    assert set(json.loads((tmp_path / "Weights/mine/checksums.json").read_text())) == {
        "Weights/mine/S1/classification_0.safetensors", "Freq_tab/mine/S1/classification_0.json"}
    assert KINDS[0] == point.tables
