"""The papers' claims about rivals, peaks and layers: rules on known curves, with and without rows of the pictures."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.torch import save
from test_curves_bootstrap import hits, with_rows
from test_study import CURVE, put, scaled

from curve_cases import record, rival
from spic.bottleneck import make_bottleneck
from spic.files import sha256
from spic.record import Results, write_record
from spic.study import evaluation, papers
from spic.study.claims import ABSENT, FAILS, HOLDS, OPEN, PART
from spic.study.measured import Measured
from spic.training.tables import half_state


@pytest.fixture
def mine(tmp_path):
    return Measured(tmp_path / "runs", "scenes", "classification", tmp_path)


def without_rows(measured, *found):
    """The records as measured, but for the rows of the pictures."""
    points = evaluation.records(measured.root, measured.task, "shipped", "rans-shared")
    for one in found:
        if one.codec is None:
            write_record(points / f"{one.split_point}_{one.compress_factor}.json", one)
    Results(tuple(one for one in found if one.codec)).write(evaluation.rivals_folder(measured.root, measured.task) / "pictures.json")


def curve_of(make, markers, **more):
    return [make(bpp=bpp, top1=top1, **{number: i}, **more) for number in ("factor" if make is record else "quality",)
            for i, (bpp, top1) in enumerate(markers)]


AROUND = [(0.1, 70.0), (0.2, 76.0)]  # the network alone: 76


def around(scale):
    return [(bpp * scale, top1) for bpp, top1 in AROUND]


@pytest.mark.parametrize("s1, s2", [(0.1, 0.2), (0.1, 0.6), (4.0, 5.0)])
def test_without_rows_factors_are_told_and_decide_nothing(mine, s1, s2):
    without_rows(mine, *curve_of(record, around(s1)), *curve_of(record, around(s2), split_point="S2"),
                 *curve_of(record, around(99), split_point="US1"), *curve_of(rival, AROUND), *curve_of(rival, around(3), codec="webp"))
    finding = papers.headline(mine)
    assert finding.verdict == OPEN and [row["cheapest rival"] for row in finding.tables[0]] == ["JPEG", "JPEG"]
    assert finding.tables[0][0]["times fewer bits, payload"] == f"{1 / s1:.2g}"
    assert finding.tables[1][0]["WebP"] == f"{float(f'{3 / s1:.2g}'):g}"
    assert papers.unlabelled(mine).tables[0][0]["times fewer bits, payload"] == "0.01", "US1 needs 99 times the bits"


def test_a_split_that_reaches_no_accuracy_beats_nobody_and_the_drop_is_the_least_it_reaches(mine):
    without_rows(mine, *curve_of(record, [(0.001, 60.0), (0.002, 65.0)]),
                 *curve_of(record, [(0.001, 70.0), (0.002, 74.5)], split_point="S2"), *curve_of(rival, AROUND))
    rows = papers.headline(mine).tables[0]
    assert [(row["points below"], row["verdict"]) for row in rows] == [(5, FAILS), (2, OPEN)]


def test_sending_the_label_is_told_and_is_no_rival(mine):
    label = dataclasses.replace(rival("label", quality=0), bpp=0.001, bpp_wire=0.01, scores={"top1": 76.0})
    without_rows(mine, *curve_of(record, around(0.1)), *curve_of(rival, AROUND), label)
    finding = papers.headline(mine)
    assert finding.verdict == OPEN and "Sending the answer itself (Label) needs 18 times fewer bits than S1" in finding.sentence


def put_with_rows(measured, share, rival_bytes, noise=0.0):
    """S1 at one byte a picture or two and JPEG at ``rival_bytes`` times that, measured with rows on 400 pictures."""
    points = evaluation.records(measured.root, measured.task, "shipped", "rans-shared")
    rivals = evaluation.rivals_folder(measured.root, measured.task)
    rng, plain = np.random.default_rng(0), hits(0.9)
    made = []
    for i, (own, size) in enumerate([(share, 2.0), (share - 0.12, 1.0)]):
        uneven = 1 + noise * rng.uniform(-1, 1, 400)
        points.mkdir(parents=True, exist_ok=True), rivals.mkdir(parents=True, exist_ok=True)
        write_record(points / f"S1_{i}.json", with_rows(points, record(factor=i), hits(own), plain, np.full(400, size)))
        made.append(with_rows(rivals, rival(quality=i), rng.permutation(hits(own)), plain, size * rival_bytes * uneven))
    Results(tuple(made)).write(rivals / "pictures.json")


@pytest.mark.parametrize("times, verdict", [(8, HOLDS), (1, OPEN), (0.1, FAILS)])
def test_with_rows_the_interval_decides(mine, times, verdict):
    put_with_rows(mine, 0.96, times)
    finding = papers.headline(mine)
    assert finding.verdict == verdict and " to " in finding.tables[0][0]["95 %, payload"]


@pytest.mark.parametrize("share, verdict", [(0.95, HOLDS), (0.9, OPEN), (0.85, FAILS)])
def test_above_the_uncompressed_network_is_paired(tmp_path, share, verdict):
    """Points of 20 pictures of 400 are beyond chance; the same score is undecided."""
    mine = Measured(tmp_path / "runs", "scenes", "segmentation", tmp_path)
    folder = evaluation.records(mine.root, "segmentation", "shipped", "rans-shared")
    folder.mkdir(parents=True)
    for i, own in enumerate((share, share - 0.3)):
        made = with_rows(folder, record(factor=i), hits(own), hits(0.9), np.full(400, 2.0 - i))
        rows = (folder / f"S1_{i}.csv").read_text().splitlines()
        pixels = ["image,payload_bytes,frame_bytes,hits,union,plain_hits,plain_union"] + [
            f"{name},{size},{wire},{hit} 0,1 0,{plain} 0,1 0" for name, hit, size, wire, plain in (row.split(",") for row in rows[1:])]
        (folder / f"S1_{i}.csv").write_text("\n".join(pixels) + "\n")
        made = dataclasses.replace(made, task="segmentation", scores={"miou": own}, baseline={"miou": 0.9},
                                   more={"per_image": sha256(folder / f"S1_{i}.csv")})
        write_record(folder / f"S1_{i}.json", made)
    finding = papers.above(mine)
    assert finding.verdict == verdict and f"S1 {100 * (share - 0.9):+.2f}" in finding.sentence
    assert papers.above(Measured(tmp_path, "scenes", "classification")).verdict == ABSENT


@pytest.mark.parametrize("gains, verdict", [((0.5, 0.2, 0.1), HOLDS), ((-0.5, -0.2, -0.1), FAILS), ((0.5, -0.1, 0.1), OPEN),
                                            ((0.5, 0.5), OPEN)])
def test_the_peak_is_that_of_the_most_bits(tmp_path, gains, verdict):
    mine = Measured(tmp_path, "mine", "classification")
    for seed, gain in enumerate(gains):
        put(mine.runs, "trained", "rans-shared", "S1 l1", [(0.01, 99.0), *CURVE[1:]], seed=seed)  # a lucky point of few bits
        put(mine.runs, "trained", "rans-shared", "S1 hyperprior", scaled(1, gain), seed=seed)
    assert papers.peak(mine).verdict == verdict


def test_curves_that_code_nothing_have_no_peak(tmp_path):
    mine = Measured(tmp_path, "mine", "classification")
    for seed, markers in enumerate((CURVE, CURVE, [(0.0, 80.0)])):
        for name in ("S1 hyperprior", "S1 l1"):
            put(mine.runs, "trained", "rans-shared", name, markers, seed=seed)
    finding = papers.peak(mine)
    assert finding.verdict == OPEN and "+0.00 ± 0.00 (n=2 of 3)" in finding.sentence


@pytest.mark.parametrize("gains, verdict", [
    ({"mae": 0, "mae@layer4.1": -1}, PART), ({"mae": 0, "mae@layer4.1": 1}, OPEN),
    ({"mae": 0, "mae@avgpool": -1, "mae@layer4.2": -2, "mae@layer4.1": -3, "mae@layer4.0": -4}, HOLDS),
    ({"mae": 0, "mae@avgpool": 1, "mae@layer4.2": 2, "mae@layer4.1": 3, "mae@layer4.0": 4}, FAILS)])
def test_layers_are_compared_with_their_neighbours_and_those_that_are_missing_leave_it_open(tmp_path, gains, verdict):
    mine = Measured(tmp_path, "mine", "classification")
    for seed in range(3):
        for layer, gain in gains.items():
            put(mine.runs, "trained", "rans-shared", f"US1 table+{layer}", scaled(1, gain), seed=seed)
    finding = papers.matching(mine)
    assert finding.verdict == verdict and f"fc against {'layer4.1' if len(gains) == 2 else 'avgpool'}" in finding.sentence


@pytest.mark.parametrize("factors, verdict", [
    ({"conv": (2, 1.5, 3), "conv2": (4, 4, 4), "separable2": (1, 1, 1)}, HOLDS),
    ({"conv": (2, 1.5, 3), "conv2": (4, 4, 4), "separable2": (0.9, 0.8, 0.7)}, PART),
    ({"conv": (0.9, 0.8, 0.7), "conv2": (0.5, 0.5, 0.5), "separable2": (0.9, 0.8, 0.7)}, FAILS),
    ({"conv": (2, 0.9, 2), "conv2": (2, 0.9, 2), "separable2": (0.9, 2, 1)}, OPEN),
    ({"conv": (2, 2), "conv2": (2, 2), "separable2": (2, 2)}, OPEN),
    ({"conv": (2, 2, 2), "conv2": (2, 2, 2)}, PART)])
def test_topologies_are_compared_with_the_published_one(tmp_path, factors, verdict):
    """Of one that was not trained nothing is known."""
    mine = Measured(tmp_path, "mine", "classification")
    for seed in range(3):
        put(mine.runs, "trained", "rans-shared", "S1 table", CURVE, seed=seed)
    for form, scales in factors.items():
        for seed, scale in enumerate(scales):
            put(mine.runs, "trained", "rans-shared", f"S1 table+{form}", scaled(scale, -0.5), seed=seed)
    finding = papers.topologies(mine)
    rows = {row["topology"]: row for row in finding.tables[0]}
    assert finding.verdict == verdict and list(rows) == ["separable", "separable2", "conv", "conv2"]
    assert rows["separable"]["accuracy at the most bits (%)"] == "91.00 ± 0.00 (n=3)"
    assert rows["conv"]["accuracy at the most bits (%)"].startswith("90.50 ± 0.00")
    assert rows["conv"]["the paper's"].endswith("4.72 M parameters")


def test_parameters_are_those_of_the_trained_files(tmp_path):
    before, mine = (Measured(tmp_path, "mine", "classification") for _ in range(2))
    put(mine.runs, "trained", "rans-shared", "S1 table", CURVE, seed=0)
    put(mine.runs, "trained", "rans-shared", "S1 table+conv", CURVE, seed=0)
    (mine.root / "trials.json").write_text(json.dumps({"classification/mine/S1/7": {"estimator": "table+conv", "seed": 0, "place": 0}}))
    assert before.parameters("S1 table+conv") is None
    file = mine.root / "Weights/mine/S1/classification_7.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(save(half_state(make_bottleneck((16, 7, 7), 4, 2, form="conv"))))
    found = {row["topology"]: row["parameters"] for row in papers.topologies(mine).tables[0]}
    assert found["conv"] == f"{2 * 16 * 4 * 9 + 2 * 4 + 2 * 16:,}" and found["separable"] == "not measured yet"


def test_nothing_measured_is_said(tmp_path):
    mine = Measured(tmp_path, "mine", "classification", tmp_path)
    assert {claim(mine).verdict for claim in (papers.headline, papers.unlabelled, papers.above, papers.peak, papers.matching,
                                          papers.topologies)} == {ABSENT}
