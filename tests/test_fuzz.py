"""bench/fuzz.py: a sample of every target, what the search found once, and that the search would find it."""

from __future__ import annotations

import importlib
import json
import pickle

import pytest
import torch

from spic.errors import SpicError
from spic.points import load_points
from spic.training.checkpoint import Run
from tests.test_training_checkpoint import IDENTITY, moments, parts, rewrite

SAMPLE = 150
TARGETS = ("streams", "payloads", "tables", "points", "checkpoints", "records", "annotations", "archives")


@pytest.fixture
def fuzz(bench):
    return bench("fuzz")


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_a_sample_of_damaged_input_is_refused_or_right(fuzz, name, tmp_path):
    tally = fuzz.attack(name, range(SAMPLE), 0, tmp_path)
    assert tally.cases == SAMPLE == tally.refused + tally.accepted and tally.refused


def test_all_targets_are_sampled(fuzz):
    assert tuple(fuzz.TARGETS) == TARGETS


# ---- the search itself -------------------------------------------------------------------------------------------------


def raises(error):
    def case(rng):
        raise error
    return lambda folder: case


@pytest.mark.parametrize("error, told", [
    (KeyError("x"), "KeyError"), (MemoryError(), "MemoryError"), (SpicError(""), "refused in 0 lines"),
    (SpicError("x" * 5000), "5000 characters"), (AssertionError("wrong"), "wrong")])
def test_an_error_of_another_kind_is_an_offence_with_seed_and_number(fuzz, monkeypatch, tmp_path, error, told):
    monkeypatch.setitem(fuzz.TARGETS, "records", raises(error))
    with pytest.raises(fuzz.Offence, match=f"records, --seed 5, case 7: .*{told}"):
        fuzz.attack("records", range(7, 9), 5, tmp_path)


def test_a_case_depends_on_seed_target_and_number_alone(fuzz, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(fuzz, "WARM_UP", 0)
    monkeypatch.setitem(fuzz.TARGETS, "records", lambda folder: lambda rng: drawn.append(rng.random()))
    fuzz.attack("records", range(0, 5), 1, tmp_path)
    fuzz.attack("records", range(3, 5), 1, tmp_path)
    fuzz.attack("records", range(3, 5), 2, tmp_path)
    assert drawn[5:7] == drawn[3:5] and len(set(drawn)) == 7


def test_an_offence_is_exit_code_1(fuzz, monkeypatch, capsys):
    def attacked(name, numbers, seed):
        raise fuzz.Offence(f"{name}, --seed {seed}, case {numbers[0]}: x")
    monkeypatch.setattr(fuzz, "guarded_attack", attacked)
    assert fuzz.main(["--only", "records", "--seed", "3", "--first", "8", "--cases", "1"]) == 1
    assert "OFFENCE: records, --seed 3, case 8: x" in capsys.readouterr().out


# ---- what it found -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    lambda s: s["parts"]["optimizer"]["param_groups"][0].update(amsgrad=True),
    lambda s: s["parts"]["optimizer"]["param_groups"][0].update(betas=("x", 1)),
    lambda s: s["parts"]["optimizer"]["param_groups"][0].update(factor=0.25),
    lambda s: moments(s).update(exp_avg=[[0.0] * 3] * 2), lambda s: moments(s).update(exp_avg=torch.zeros(2, 3).to_sparse()),
    lambda s: moments(s).update(step=torch.tensor(1e38)), lambda s: moments(s).update(step=torch.tensor(-1.0)),
    lambda s: moments(s).update(exp_avg_sq=torch.full((2, 3), torch.nan)),
], ids=["amsgrad", "betas", "factor", "list", "sparse", "late", "early", "nan"])
@pytest.mark.filterwarnings("ignore")
def test_an_optimizer_that_could_not_take_its_next_step_is_refused(tmp_path, change):
    run = Run(tmp_path / "run.pt", IDENTITY)
    run.save(3, **parts())
    rewrite(run, lambda state: change(state) and None)
    with pytest.raises(SpicError, match="its optimizer does not fit this run .*; delete it to start over$"):
        run.restore(**parts())


@pytest.mark.parametrize("identity", [{"step": torch.zeros(5)}, {"step": {}}, {1: 1.0}, {"step": 10**5000}])
def test_an_identity_that_cannot_be_compared_is_no_checkpoint(tmp_path, identity):
    run = Run(tmp_path / "run.pt", IDENTITY)
    run.save(3, **parts())
    rewrite(run, lambda state: state.update(identity=identity))
    with pytest.raises(SpicError, match="run.pt: not a readable checkpoint"):
        run.done()


def test_a_foreign_identity_is_told_in_a_short_line(tmp_path):
    run = Run(tmp_path / "run.pt", IDENTITY)
    run.save(3, **parts())
    rewrite(run, lambda state: state.update(identity={"step": "x" * 10_000, "y" * 10_000: ["\n"] * 5000}))
    with pytest.raises(SpicError, match="checkpoint of another run") as caught:
        run.done()
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("bracket", ["{", "[", "{a: ", "- "])
def test_nested_brackets_in_dict_yaml_are_refused_soon(tmp_path, bracket):
    path = tmp_path / "dict.yaml"
    path.write_text(bracket * 2000)
    with pytest.raises(SpicError, match=r"not readable as YAML .line 1, column \d\d: nested more than 20 deep"):
        load_points(path)  # where the 21st opens, of 2,000


def test_a_picture_name_of_many_characters_is_refused_in_a_short_line(fuzz, tmp_path):
    targets = importlib.import_module("fuzz_targets")
    targets.annotations(tmp_path)
    path = tmp_path / "instances.json"
    content = json.loads(path.read_text())
    content["images"][2]["file_name"] = "{" * 5000
    path.write_text(json.dumps(content))
    with pytest.raises(SpicError, match="file_name of more than 1000 characters") as caught:
        targets._read_masks(tmp_path, path)
    assert len(str(caught.value)) < 300


def test_an_error_stays_in_one_line_whatever_name_it_quotes():
    error = SpicError("a\nb\u2028c\r\nd: no such file")
    assert str(error) == "a b c d: no such file"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
