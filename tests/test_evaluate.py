"""The loop: dead workers and too many processes end in one clear line; a second thread changes nothing."""

import os
import signal

import pytest
import torch
from test_pipeline import SIZE, point_with
from torch.utils.data import Dataset

from spic import parallel
from spic.benchmarks import Benchmark
from spic.errors import SpicError
from spic.evaluate import Settings, evaluate, lay_roads
from spic.tasks.classification import TopK
from spic.networks import resnet50


class Noise(Dataset):
    """A data set of seeded noise; item ``fatal`` kills the process that loads it."""

    image_size, num_classes = SIZE, 10

    def __init__(self, length: int, fatal: int = -1):
        self.paths = [f"{i}.jpg" for i in range(length)]
        self.fatal = fatal

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        if index == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(index)), index % 10


@pytest.fixture
def stations(tmp_path):
    torch.manual_seed(0)
    network = resnet50(0.125, 10).eval().requires_grad_(False)
    benchmark = Benchmark("classification", "mine", 10, 0.125, None)
    return lambda settings: lay_roads(benchmark, network, point_with(tmp_path), SIZE, settings)


def run(stations, dataset, settings):
    return evaluate(stations(settings), dataset, TopK(10), settings)


def test_overlapping_batches_changes_nothing(stations):
    plain = Settings("rans", batch_size=3, workers=0, keep_rows=True)
    overlapped = Settings("rans", batch_size=3, workers=0, keep_rows=True, overlap=True)
    for a, b in zip(run(stations, Noise(10), plain), run(stations, Noise(10), overlapped)):
        assert a.rows == b.rows
        assert torch.equal(a.totals, b.totals)
        assert a.total("images") == 10
        assert len(a.rows) == 10


def test_rows_are_kept_only_on_request(stations):
    assert all(road.rows == [] for road in run(stations, Noise(4), Settings(batch_size=2, workers=0)))


def test_wire_bytes_are_header_frames_and_end_mark(stations):
    for road in run(stations, Noise(5), Settings("rans", batch_size=2, workers=0, keep_rows=True)):
        framed = sum(row["frame_bytes"] for row in road.rows)
        assert road.total("wire_bytes") == len(road.edge.header) + framed + 3
        assert all(row["frame_bytes"] - row["payload_bytes"] in (3, 4) for row in road.rows)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_worker_that_dies_is_one_clear_line(stations):
    with pytest.raises(SpicError, match="a process that loads images died.*--workers"):
        run(stations, Noise(6, fatal=3), Settings(batch_size=2, workers=1))


def test_more_processes_than_images_is_refused(stations, monkeypatch):
    monkeypatch.setattr(parallel, "world", lambda: 3)
    with pytest.raises(SpicError, match="3 processes for 2 images"):
        run(stations, Noise(2), Settings(workers=0))
