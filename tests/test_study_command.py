"""The commands of the study, on a tiny benchmark of noise: trained, measured, judged."""

import numpy as np
import pytest
import torch
from study_cases import TINY

from spic import benchmarks
from spic.benchmarks import Benchmark, Cropping, Recipe, Source
from spic.datasets.images import Preparation
from spic.networks import narrow
from spic.points import load_points
from spic.study import claims, cost_claims, evaluation, plan
from spic.study.claims import OPEN
from spic.study.command import main
from spic.study.measured import Measured, sets
from spic.study.report import CLAIMS


class Noise:
    """Labelled noise, as a data set of pictures."""

    image_size, num_classes = (64, 64), 4

    def __init__(self, folder, count):
        self.paths = [folder / f"{i}" for i in range(count)]
        for path in self.paths:
            if not path.exists():
                path.touch()

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(index)), index % 4

    def pixels(self, index):
        return np.random.default_rng(index).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder in which ``main`` has trained and measured the tiny benchmark, a network of noise."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(TINY)
    torch.manual_seed(0)
    weights = narrow.resnet50(0.125, 4).state_dict()

    class Tiny(Benchmark):
        def build_network(self, file=None):
            network = narrow.resnet50(0.125, 4)
            network.load_state_dict(weights)
            return network.eval().requires_grad_(False)

    entry = Tiny("classification", "tiny", "narrow:resnet50/0.125", 4, Preparation(64, 64), lambda data, limit: Noise(folder, 10), tuple,
                 cuts={"S1": "layer4.2"}, official=True, source=Source(lambda data, split, limit=None: Noise(folder, 16)),
                 recipe=Recipe(((2, 32),), Cropping((0.5, 1.0))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "STUDY_FILE", folder / "study.yaml")
        patch.setitem(benchmarks.benchmarks(), ("classification", "tiny"), entry)
        patch.setattr(evaluation, "DICT_FILE", folder / "runs" / "tiny" / "dict.yaml")
        assert run(folder, "train", "--benchmark", "tiny", "--processes", "2") == 0
        yield folder


def run(folder, verb, *more):
    return main([verb, "--runs", str(folder / "runs"), *more])


def test_training_writes_one_catalogue_and_skips_what_is_done(tiny, capsys):
    points = load_points(tiny / "runs" / "tiny" / "dict.yaml")
    names = plan.read_notes(tiny / "runs" / "tiny")
    assert {"/".join(map(str, key)) for key in points} == set(names) and len(points) == 6
    before = {point.weights: point.weights.stat().st_mtime_ns for point in points.values()}
    assert run(tiny, "train", "--benchmark", "tiny", "--processes", "1") == 0
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_some_curves_alone_are_measured(tiny, tmp_path, capsys, monkeypatch):
    words = ["measure", "--benchmark", "tiny", "--workers", "0", "--variants", "rans-shared", "--only"]
    assert run(tiny, *words, "S1/l1", "S2/l1") == 2
    assert "--only S2/l1: nothing of that name" in (said := capsys.readouterr().err) and "S1/l1" in said
    asked = []
    monkeypatch.setattr(evaluation.val, "measure_points", lambda points, **_: asked.append({point.name for point in points}) or [])
    assert run(tiny, *words, "S1/l1") == 0
    notes = plan.read_notes(tiny / "runs" / "tiny")
    assert asked[0] == {name for name, what in notes.items() if what["estimator"] == "l1"} and len(asked[0]) == 2


def test_measure_and_report_judge_what_was_trained(tiny, tmp_path, capsys):
    variants = ["rans-shared", "huffman-shared", "rans-channel"]
    assert run(tiny, "measure", "--benchmark", "tiny", "--workers", "0", "--variants", *variants) == 0
    measured = Measured(tiny / "runs", "tiny", "classification")
    assert [m.name for m in sets(tiny / "runs")] == ["tiny-classification"]
    assert measured.estimators == {"S1": ["l1", "table"], "US1": ["table"]} and measured.seeds == [0]
    assert len(measured.curve("S1 l1", 0).points) == 2
    assert measured.trained("rans-channel", "S1 *").images == 10
    assert cost_claims.switching(measured).tables[0][0]["network untouched"] == "yes"
    assert "predictions" not in claims.tables(measured).sentence and "no point" in claims.tables(measured).sentence
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- study: {name} tiny-classification -->\n<!-- end -->\n" for name in CLAIMS))
    capsys.readouterr()
    places = ["--output", page, "--figures", tmp_path, "--points", tmp_path / "none.yaml"]
    assert run(tiny, "report", *map(str, places)) == 0
    assert (tmp_path / "study-tiny-classification-estimators-S1.png").exists()
    assert "](study-tiny-classification-unsupervised.png)" in page.read_text()
    assert f"**{OPEN}**" in page.read_text()  # one seed decides nothing
    assert "audit is left as it stands" in capsys.readouterr().out
    before = {name: block(page, name) for name in ("estimators", "prediction", "deeper", "recipe")}
    assert main(["report", "--runs", str(tmp_path / "empty"), *map(str, places)]) == 0  # from what was kept of the trainings
    assert before == {name: block(page, name) for name in before} and "S1 table" in before["estimators"]


def block(page, name):
    return page.read_text().partition(f"<!-- study: {name} tiny-classification")[2].partition("<!-- end -->")[0]


def test_a_page_without_places_is_refused(tmp_path, capsys):
    assert run(tmp_path, "report", "--output", str(tmp_path / "new.md")) == 2
    assert "has no place for findings" in capsys.readouterr().err


def test_nothing_to_measure_or_to_report_is_an_error(tmp_path, capsys):
    for words in (["--benchmark", "nowhere"], ["--benchmark", "imagenette", "--task", "segmentation"]):
        assert run(tmp_path, "measure", *words) == 2
        assert f"no points of {words[1]}" in capsys.readouterr().err
    (tmp_path / "page.md").write_text("<!-- study: deeper x -->\n<!-- end -->\n")
    assert run(tmp_path, "report", "--output", str(tmp_path / "page.md"), "--figures", str(tmp_path)) == 2
    assert "nothing was measured there" in capsys.readouterr().err
