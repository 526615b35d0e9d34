"""bench/kill.py: a job that goes on where it was is found equal, one that does not is found out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from spic.files import write_whole


@pytest.fixture
def kill(monkeypatch, bench):
    monkeypatch.setenv("SPIC_CACHE", "unused")  # torment sets it
    return bench("kill")


def write_numbers(base: Path, place: Path) -> int:
    """Ten files, one after another; those that are there are left alone."""
    place.mkdir(exist_ok=True)
    for number in range(10):
        if not (place / f"{number}.txt").exists():
            time.sleep(0.03)
            write_whole(place / f"{number}.txt", str(number).encode())
    return 0


def count_starts(base: Path, place: Path) -> int:
    """Something else whenever it was interrupted."""
    place.mkdir(exist_ok=True)
    with open(place / "starts.txt", "a") as file:
        file.write("x")
    time.sleep(1.0)  # long beside what starting a process takes: hardly a kill comes before the line above
    return 0


def fail_when_resumed(base: Path, place: Path) -> int:
    return 2 if place.exists() else count_starts(base, place)


def test_a_job_that_goes_on_is_equal(kill, tmp_path):
    tally = kill.torment(kill.Job("numbers", write_numbers), tmp_path, 4, 0)
    assert tally.kills == 4 and tally.through == tally.equal > 0 and not tally.problems and 0 <= tally.alone <= 4


def test_a_job_that_does_not_is_found_out(kill, tmp_path):
    tally = kill.torment(kill.Job("starts", count_starts), tmp_path, 2, 0)
    assert tally.equal < tally.through and "1 of 1 files differ: starts.txt" in tally.problems


def test_a_job_that_cannot_be_resumed_is_found_out(kill, tmp_path):
    tally = kill.torment(kill.Job("stubborn", fail_when_resumed), tmp_path, 1, 0)
    assert not tally.equal and any("ended with code 2" in problem for problem in tally.problems)


@pytest.mark.parametrize("name, content, other, equal", [
    ("a.json", {"bpp": 1, "seconds": {"front": 1}}, {"bpp": 1, "seconds": {"front": 2}}, True),
    ("a.json", {"bpp": 1}, {"bpp": 2}, False),
    ("a.jsonl", {"step": 1, "seconds": 1.0}, {"step": 1, "seconds": 2.0}, True),
    ("a.jsonl", {"step": 1}, {"step": 2}, False),
])
def test_all_but_the_seconds_of_records_and_logs_count(kill, tmp_path, name, content, other, equal):
    states = []
    for folder, text in (("one", content), ("other", other)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps(text) + "\n")
        states.append(kill.state(tmp_path / folder))
    assert (kill.differing(*states) == []) is equal


def test_a_log_with_a_line_twice_is_another_one(kill, tmp_path):
    for folder, lines in (("one", 1), ("other", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text('{"step": 1}\n' * lines)
    assert kill.differing(kill.state(tmp_path / "one"), kill.state(tmp_path / "other")) == ["a.jsonl"]


def test_a_value_far_inside_a_checkpoint_counts(kill, tmp_path):
    for folder in ("one", "other", "same"):
        (tmp_path / folder).mkdir()
        values = torch.zeros(5000)
        values[2500] = folder == "other"
        torch.save({"done": 1, "parts": {"network": [values]}}, tmp_path / folder / "a.pt")
    states = [kill.state(tmp_path / folder) for folder in ("one", "other", "same")]
    assert states[0] == states[2] != states[1]


def test_half_written_files_are_counted_and_are_no_results(kill, tmp_path):
    (tmp_path / ".a.json.123").write_text("{")
    assert kill.state(tmp_path) == {} and kill.leftovers(tmp_path) == 1
