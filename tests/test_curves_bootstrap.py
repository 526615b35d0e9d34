"""Intervals over pictures: known answers, pairing, rows on disk, and the tables beside a figure."""

import math

import numpy as np
import pytest
import torch
from curve_cases import record, rival, write

from spic.curves import factors
from spic.curves.bootstrap import RESAMPLES, UNKNOWN, Bootstrap, Interval, draw, interval, reached
from spic.curves.command import main
from spic.curves.comparison import compare, read
from spic.curves.redraw import read_csv
from spic.curves.samples import Rows
from spic.errors import SpicError
from spic.files import sha256
from spic.record import Results
from spic.report import write_csv
from spic.tasks import TASKS

IMAGES, PIXELS = 400, 100


def with_rows(folder, made, hits, plain, payload, wire=None, names=None):
    """The record as measured on 0/1 hits and bytes per picture, its rows beside it."""
    wire = payload if wire is None else wire
    rows = [{"image": name, "top1": int(h), "payload_bytes": b, "frame_bytes": w, "plain_top1": int(p)}
            for name, h, b, w, p in zip(names or range(len(hits)), hits, payload, wire, plain)]
    path = folder / f"{made.split_point or made.codec}_{made.compress_factor if made.quality is None else made.quality}.csv"
    write_csv(path, rows)
    bits = 8 / PIXELS
    return type(made)(**{**vars(made), "images": len(hits), "scores": {"top1": 100 * np.mean(hits)},
                         "baseline": {"top1": 100 * np.mean(plain)}, "bpp": bits * np.mean(payload),
                         "bpp_wire": bits * np.mean(wire), "more": {"per_image": sha256(path)}})


def hits(share, count=IMAGES):
    return np.arange(count) < round(share * count)


def two_curves(folder, ours_bytes=2.0, rival_bytes=20.0, noise=0.0):
    """S1 and JPEG, two points each around one point below 90 %; the rival needs ten times the bytes of every picture."""
    plain, noisy = hits(0.9), 1 + noise * np.random.default_rng(1).uniform(-1, 1, IMAGES)
    made = [with_rows(folder, record(factor=i), hits(share), plain, size * ours_bytes * noisy, 3 * size * ours_bytes * noisy)
            for i, (share, size) in enumerate([(0.9, 2), (0.85, 1)])]
    made += [with_rows(folder, rival(quality=i), hits(share), plain, size * rival_bytes * noisy)
             for i, (share, size) in enumerate([(0.9, 2), (0.85, 1)])]
    return made


def bootstrap_of(folder, made):
    return Bootstrap(compare(Results(tuple(made))), Rows([folder]))


def test_the_interval_of_a_share_is_the_binomial_one(tmp_path):
    """90 % of 400 pictures: 1.96 times the root of p (1 - p) / n is 2.94 points."""
    made = with_rows(tmp_path, record(), hits(0.9), hits(0.9), np.ones(IMAGES))
    found = bootstrap_of(tmp_path, [made])
    low_high = interval(found.accuracies(found.comparison.curves[0].points[0]))
    assert low_high.low == pytest.approx(87.06, abs=0.4) and low_high.high == pytest.approx(92.94, abs=0.4)


def test_what_is_equal_on_every_picture_has_no_spread_at_all(tmp_path):
    """Paired: the curves share their pictures, so a constant factor stays one, although each rate alone varies."""
    found = bootstrap_of(tmp_path, two_curves(tmp_path, noise=0.9))
    ours, other = found.comparison.curves
    assert np.std(found.rates_at(ours, 1)) > 0
    payload, wire = (found.times(ours, [other], rate=rate) for rate in ("bpp", "bpp_wire"))
    assert payload.low == pytest.approx(10) and payload.high == pytest.approx(10)
    assert wire.low == pytest.approx(10 / 3) and wire.high == pytest.approx(10 / 3)


def test_the_difference_to_the_network_is_paired(tmp_path):
    """Two pictures of 400 are lost: the difference is known far better than either accuracy."""
    made = with_rows(tmp_path, record(), hits(0.895), hits(0.9), np.ones(IMAGES))
    found = bootstrap_of(tmp_path, [made])
    (row,) = factors.accuracies(found.comparison, found)
    assert row["above uncompressed"] == "-0.50" and row["95 %, above"] == "-1.25 to +0.00"


def test_the_cheapest_rival_of_each_draw_counts(tmp_path):
    made = two_curves(tmp_path)
    cheap = [with_rows(tmp_path, rival("webp", quality=i), hits(share), hits(0.9), np.full(IMAGES, size * 10.0))
             for i, (share, size) in enumerate([(0.9, 2), (0.85, 1)])]
    found = bootstrap_of(tmp_path, made + cheap)
    table = {row["against"]: row for row in factors.times_fewer(found.comparison, found)}
    assert [table[name]["times fewer bits, payload"] for name in (factors.CHEAPEST, "JPEG", "WebP")] == ["5", "10", "5"]
    assert table[factors.CHEAPEST]["95 %, payload"] == "5 to 5"
    assert table["JPEG"]["times fewer bits, all bytes"] == "3.3"


def test_a_rival_that_does_not_get_there_is_infinitely_worse(tmp_path):
    made = two_curves(tmp_path)[:2] + [with_rows(tmp_path, rival(quality=i), hits(0.5), hits(0.9), np.full(IMAGES, 9.0 + i))
                                       for i in range(2)]
    found = bootstrap_of(tmp_path, made)
    row = factors.times_fewer(found.comparison, found)[0]
    assert row["times fewer bits, payload"] == "over any" and row["95 %, payload"] == "over any"


@pytest.mark.parametrize("wanted, rate", [(50, 1), (60, 1), (65, math.sqrt(10)), (70, 10), (71, math.inf)])
def test_rates_outside_a_curve(wanted, rate):
    assert reached(np.array([1.0, 10.0]), np.array([60.0, 70.0]), wanted) == pytest.approx(rate)


def test_too_few_answers_make_no_interval():
    draws = np.where(np.arange(100) < 10, math.nan, 1.0)
    assert interval(draws) is UNKNOWN and UNKNOWN.text(str) == "not known" and not UNKNOWN.above(0)
    assert interval(np.where(np.arange(100) < 2, math.nan, 1.0)) == Interval(1.0, 1.0)


def test_draws_are_always_the_same_ones_and_every_one_is_complete():
    weights = draw(50)
    assert np.array_equal(weights, draw(50)) and len({tuple(row) for row in weights}) == len(weights) == RESAMPLES
    assert (weights.sum(1) == 50).all()


def test_rows_of_other_pictures_are_not_paired(tmp_path):
    made = two_curves(tmp_path)
    made[3] = with_rows(tmp_path, rival(quality=1), hits(0.85), hits(0.9), np.full(IMAGES, 20.0), names=range(1, 401))
    found = bootstrap_of(tmp_path, made)
    with pytest.raises(SpicError, match="jpeg: measured on other pictures"):
        found.times(*[found.comparison.curves[0], found.comparison.curves[1:]])


@pytest.mark.parametrize("text, words", [
    ("image,top1\n1,1\n", "1 rows for 400 images"), ("", "0 rows"), ("image\n" + "x\n" * 400, "payload_bytes"),
    ("image,top1,payload_bytes,frame_bytes,plain_top1\n" + "x,1,a,2,1\n" * 400, "could not convert"),
    ("image,top1,payload_bytes,frame_bytes,plain_top1\n" + "x,nan,1,2,1\n" * 400, "a number that is none")])
def test_a_file_that_holds_no_rows_is_named(tmp_path, text, words):
    made = with_rows(tmp_path, record(), hits(0.9), hits(0.9), np.ones(IMAGES))
    file = tmp_path / "S1_0.csv"
    file.write_text(text)
    made.more["per_image"] = sha256(file)
    with pytest.raises(SpicError, match=f"S1_0.csv: not a row per image.*{words}"):
        Rows([tmp_path]).of(made)


def test_a_changed_file_of_rows_belongs_to_no_record(tmp_path):
    made = with_rows(tmp_path, record(), hits(0.9), hits(0.9), np.ones(IMAGES))
    (tmp_path / "S1_0.csv").write_text((tmp_path / "S1_0.csv").read_text() + "\n")
    assert Rows([tmp_path]).of(made) is None and not bootstrap_of(tmp_path, [made]).names


def test_mean_iou_of_sums_is_that_of_the_counts():
    rng, task = np.random.default_rng(0), TASKS["segmentation"]


    metric, logits = task.metric(5), torch.from_numpy(rng.normal(size=(6, 5, 8, 8)))
    targets = torch.from_numpy(rng.integers(0, 3, (6, 8, 8)))  # classes 3 and 4 occur in predictions alone
    rows = metric.update(logits, targets)
    sums = np.array([[int(cell) for name in task.summed for cell in row[name].split()] for row in rows])
    assert task.score_of_sums(sums.sum(0), 6) == pytest.approx(metric.result()["miou"])
    assert task.score_of_sums(sums[:, None], 1)[0, 0] == pytest.approx(rows[0]["miou"])
    assert task.score_of_sums(np.zeros((2, 10)), 1).tolist() == [0, 0]


def test_the_figure_has_ratios_and_intervals_beside_it(tmp_path, capsys):
    write(tmp_path, *two_curves(tmp_path))
    assert main(["figure", str(tmp_path), "--output", str(tmp_path / "out" / "f")]) == 0
    assert "JPEG,10,10 to 10,3.3,3.3 to 3.3" in (tmp_path / "out" / "f.ratios.csv").read_text()
    assert len((tmp_path / "out" / "f.intervals.csv").read_text().splitlines()) == 1 + 4
    assert "percentile bootstrap" in (tmp_path / "out" / "f.txt").read_text()
    capsys.readouterr()
    assert main(["ratios", str(tmp_path / "results.json")]) == 0
    assert "10 to 10" in capsys.readouterr().out
    (row, *_) = factors.times_fewer(read_csv(tmp_path / "out" / "f.csv"))
    assert row["times fewer bits, payload"] == "10" and row["95 %, payload"] == "not measured"


def test_ratios_need_a_rival(tmp_path, capsys):
    assert main(["ratios", str(write(tmp_path, record()))]) == 2
    assert "no rival" in capsys.readouterr().err
    assert not factors.times_fewer(read([write(tmp_path, record())]))
