"""The loop: dead workers and too many processes end in one clear line; a second thread changes nothing."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from test_pipeline import SIZE, benchmark, point_with
from torch.utils.data import Dataset

from spic import parallel
from spic.errors import SpicError
from spic.evaluate import Settings, evaluate, lay_roads
from spic.tasks.classification import TopK
from spic.networks.narrow import resnet50


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
def roads_of(tmp_path):
    torch.manual_seed(0)
    network = resnet50(0.125, 10).eval().requires_grad_(False)
    mine = replace(benchmark(), num_classes=10)
    return lambda settings: lay_roads(mine, network, point_with(tmp_path), SIZE, settings)


def run(roads_of, dataset, settings):
    return evaluate(roads_of(settings), dataset, TopK(10), settings)


def test_overlapping_batches_changes_nothing(roads_of):
    plain = Settings("rans", batch_size=3, workers=0, keep_rows=True)
    overlapped = Settings("rans", batch_size=3, workers=0, keep_rows=True, overlap=True)
    for a, b in zip(run(roads_of, Noise(10), plain), run(roads_of, Noise(10), overlapped)):
        assert a.rows == b.rows
        assert torch.equal(a.counts, b.counts) and (a.histogram == b.histogram).all()
        assert a.count("images") == 10
        assert len(a.rows) == 10


def test_the_batch_size_changes_no_digit_of_the_cross_entropy(roads_of):
    one, all_at_once = (run(roads_of, Noise(7), Settings("rans", batch_size=size, workers=0)) for size in (1, 7))
    for a, b in zip(one, all_at_once):
        assert (a.histogram == b.histogram).all() and a.table_bits == b.table_bits


def test_rows_are_kept_only_on_request(roads_of):
    assert all(road.rows == [] for road in run(roads_of, Noise(4), Settings(batch_size=2, workers=0)))


def test_wire_bytes_are_header_frames_and_end_mark(roads_of):
    for road in run(roads_of, Noise(5), Settings("rans", batch_size=2, workers=0, keep_rows=True)):
        framed = sum(row["frame_bytes"] for row in road.rows)
        assert road.count("wire_bytes") == len(road.edge.header) + framed + 3
        assert all(row["frame_bytes"] - row["payload_bytes"] in (3, 4) for row in road.rows)


def test_pictures_without_labels_are_scored_by_agreement(roads_of):
    class Unlabelled(Noise):
        def __getitem__(self, index):
            return super().__getitem__(index)[0]

    for road in run(roads_of, Unlabelled(5), Settings("rans", batch_size=2, workers=0, keep_rows=True)):
        assert set(road.metric.result()) == {"agreement", "divergence"}
        assert road.baseline.result() == {"agreement": 100.0, "divergence": 0.0}
        assert all("prediction" in row and "top1" not in row for row in road.rows)


def test_a_pass_that_was_cut_off_goes_on_to_the_same_result(roads_of, tmp_path, monkeypatch):
    monkeypatch.setattr("spic.evaluate.KEEP_SECONDS", 0.0)
    settings = Settings("rans", batch_size=2, workers=0, keep_rows=True)
    expected = run(roads_of, Noise(9), settings)
    kept = replace(settings, progress=tmp_path / "passes" / "one")

    class Stops(Noise):
        seen = 0

        def __getitem__(self, index):
            if index == 7:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        run(roads_of, Stops(9), kept)
    assert list((tmp_path / "passes").iterdir())

    class Counts(Noise):
        read = []

        def __getitem__(self, index):
            self.read.append(index)
            return super().__getitem__(index)

    resumed = run(roads_of, Counts(9), kept)
    assert min(Counts.read) >= 2, "it did not begin anew"
    for a, b in zip(expected, resumed):
        assert a.rows == b.rows and torch.equal(a.counts, b.counts) and (a.histogram == b.histogram).all()
        assert a.metric.result() == b.metric.result() and a.baseline.result() == b.baseline.result()
    assert not list((tmp_path / "passes").iterdir()), "what is through leaves nothing behind"


def test_a_damaged_file_of_progress_begins_anew(roads_of, tmp_path):
    settings = Settings("rans", batch_size=4, workers=0, progress=tmp_path / "one")
    for content in (b"", b"x" * 50):
        (tmp_path / "one.0-of-1").write_bytes(content)
        assert run(roads_of, Noise(4), settings)[0].count("images") == 4


def test_nan_in_the_networks_answer_ends_the_run(tmp_path):
    torch.manual_seed(0)
    network = resnet50(0.125, 10).eval().requires_grad_(False)
    network.fc.bias[0] = torch.nan
    stretches = lay_roads(replace(benchmark(), num_classes=10), network, point_with(tmp_path), SIZE, Settings(workers=0))
    with pytest.raises(SpicError, match="the uncompressed network: .* is not a number"):
        evaluate(stretches, Noise(3), TopK(10), Settings(workers=0))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_worker_that_dies_is_one_clear_line(roads_of):
    with pytest.raises(SpicError, match="a process that loads images died.*--workers"):
        run(roads_of, Noise(6, fatal=3), Settings(batch_size=2, workers=1))


def test_more_processes_than_images_is_refused(roads_of, monkeypatch):
    monkeypatch.setattr(parallel, "world", lambda: 3)
    with pytest.raises(SpicError, match="3 processes for 2 images"):
        run(roads_of, Noise(2), Settings(workers=0))
