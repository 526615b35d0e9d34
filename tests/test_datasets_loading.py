"""Batches: order, targets or none, and what goes wrong in a worker is one line wherever the main process stands then."""

import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from spic.datasets.pictures import UnreadableImage
from spic.datasets.loading import batches, check_workers
from spic.errors import SpicError


class Numbers(Dataset):
    """Item i is (a picture full of i, i), or the picture alone; item ``fatal`` kills the process that loads it."""

    def __init__(self, length=7, labelled=True, fatal=None, unreadable=None):
        self.length, self.labelled, self.fatal, self.unreadable = length, labelled, fatal, unreadable

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.unreadable:
            raise UnreadableImage(f"cannot read the image {index}.jpg (why: so); remove it")
        image = torch.full((3, 4, 5), float(index))
        return (image, index) if self.labelled else image


@pytest.mark.parametrize("workers", [0, 2])
def test_items_come_in_order_with_their_places_and_the_last_part_counts(workers):
    got = list(batches(Numbers(), 3, workers))
    assert [places for _, _, places in got] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(images[:, 0, 0, 0].tolist() == targets.tolist() == places for images, targets, places in got)


def test_a_choice_of_items_and_items_without_targets():
    assert [(targets, places) for _, targets, places in batches(Numbers(labelled=False), 2, indices=range(1, 7, 2))] == \
        [(None, [1, 3]), (None, [5])]


def test_a_killed_loader_process_is_one_line():
    with pytest.raises(SpicError, match="a process that loads images died.*--workers") as caught:
        list(batches(Numbers(40, fatal=3), 2, workers=2))
    assert "\n" not in str(caught.value)


def test_a_loader_process_killed_while_the_main_process_computes_is_one_line():
    """torch's own handler would raise in the middle of the body of the loop."""
    entered = 0
    with pytest.raises(SpicError, match="a process that loads images died") as caught:
        for _, _, places in batches(Numbers(4000), 2, workers=2):
            if places[0] == 4:
                for child in multiprocessing.active_children():
                    child.kill()
                time.sleep(0.5)
                entered += 1
    assert entered == 1 and "\n" not in str(caught.value)


def test_the_same_after_another_loader_left_torchs_handler():
    list(DataLoader(Numbers(), num_workers=1))
    with pytest.raises(SpicError, match="a process that loads images died"):
        for _ in batches(Numbers(40, fatal=6), 2, workers=2):
            time.sleep(0.1)


def test_the_programs_own_signal_handler_stays():
    before = signal.signal(signal.SIGCHLD, handler := lambda *_: None)
    try:
        list(batches(Numbers(), 2, workers=1))
        assert signal.getsignal(signal.SIGCHLD) is handler
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_data_sets_own_error_stays_the_line_it_was(workers):
    with pytest.raises(UnreadableImage) as caught:
        list(batches(Numbers(unreadable=4), 2, workers))
    assert str(caught.value) == "cannot read the image 4.jpg (why: so); remove it"


def test_an_error_of_who_uses_the_batches_is_not_taken_for_a_dead_worker():
    with pytest.raises(RuntimeError, match="^DataLoader worker of mine$"):
        for _ in batches(Numbers(), 2):
            raise RuntimeError("DataLoader worker of mine")


@pytest.mark.parametrize("workers", [999_999_999, 10 ** 400, -1])
def test_workers_are_bounded_by_what_the_machine_bears(workers):
    with pytest.raises(SpicError, match="--workers .*: this machine has .* choose 0 to") as caught:
        next(batches(Numbers(), 2, workers))
    assert len(str(caught.value)) < 120
    assert check_workers(16) == 16


@pytest.mark.parametrize("size", [0, 10 ** 20, 10 ** 400])
def test_batch_sizes_are_bounded(size):
    with pytest.raises(SpicError, match="--batch_size .*: choose 1 to 65536"):
        next(batches(Numbers(), size))


def test_no_more_processes_are_started_than_there_are_batches(monkeypatch):
    seen = []
    monkeypatch.setattr("spic.datasets.loading.DataLoader",
                        lambda *args, num_workers, **more: seen.append(num_workers) or DataLoader(*args, **more))
    list(batches(Numbers(), 4, workers=9))
    assert seen == [2]
