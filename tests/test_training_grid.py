"""The grid of operating points, and what is written for each."""

import json
from itertools import pairwise

import pytest
import torch

from spic.bottleneck import make_bottleneck
from spic.errors import SpicError
from spic.pipeline import load_point
from spic.points import DICT_FILE, load_points
from spic.quantize import quantize
from spic.training import grid
from spic.training.tables import count_table, record_entry, write_point

HEADER = "# A comment that must stay.\n"


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
    jobs = grid.read_grid("scenes")
    seen = set()
    for job in jobs:
        assert job.parent is None or (*job.key[:3], job.parent) in seen
        seen.add(job.key)


def test_an_unknown_benchmark_is_named_with_the_valid_ones():
    with pytest.raises(SpicError, match="unknown benchmark 'nowhere'.*scenes"):
        grid.read_grid("nowhere")


def test_an_entry_is_put_in_place_and_the_rest_stays(tmp_path):
    path = tmp_path / "dict.yaml"
    path.write_text(HEADER + DICT_FILE.read_text())
    before = {key: point for key, point in load_points(path).items() if key[1] != "scenes"}
    entry = {"step": 0.5, "stride": 4, "channels": 12, "weights": "w.safetensors", "table": "t.json"}
    record_entry(path, ("segmentation", "scenes", "S2", 77), entry)
    after = load_points(path)
    assert path.read_text().startswith(HEADER)
    assert after["segmentation", "scenes", "S2", 77].channels == 12
    assert before.items() <= after.items()


def test_a_written_point_loads_checked_and_its_table_counts_the_symbols(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    bottleneck = make_bottleneck("classification", "S1", 16, 3, 2).eval()
    features = torch.randn(20, 16, 7, 7).relu()
    table = count_table(bottleneck.encoder, features, 0.5)
    write_point(bottleneck, table, "classification", "mine", "S1", 0, root=tmp_path)
    point = load_points(tmp_path / "dict.yaml")["classification", "mine", "S1", 0]
    loaded, read = load_point(point, 16)
    with torch.inference_mode():
        symbols = quantize(loaded.encoder(features), 0.5)
    assert read.digest == table.digest and read.total == symbols.numel() == 20 * 3 * 4 * 4
    assert set(json.loads((tmp_path / "Weights/mine/checksums.json").read_text())) == {
        "Weights/mine/S1/classification_0.safetensors", "Freq_tab/mine/S1/classification_0.json"}
