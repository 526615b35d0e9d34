"""What belongs into one figure: records become curves, foreign ones are refused."""

import dataclasses
import math

import pytest

from curve_cases import record, rival, write
from spic.curves import summaries
from spic.curves.bjontegaard import rising
from spic.curves.comparison import ANSWER, OURS, RIVAL, compare, kind_of, read
from spic.errors import SpicError
from spic.record import Costs, Results


def test_records_become_curves_sorted_by_rate(tmp_path):
    comparison = read([write(tmp_path, record(factor=0, bpp=0.3), record(factor=1, bpp=0.1), rival("jpeg2000"))])
    assert [c.name for c in comparison.curves] == ["S1", "JPEG 2000"]
    assert [p.setting for p in comparison.curves[0].points] == ["1", "0"]
    assert comparison.baseline == 76.0 and comparison.unit.key == "top1"
    assert "JPEG 2000: chroma 4:2:0, plain; x 1.0" in comparison.notes


def test_wire_rate_counts_all_bytes(tmp_path):
    comparison = read([write(tmp_path, record(bpp=0.2))], "bpp_wire")
    assert comparison.curves[0].points[0].bpp == pytest.approx(0.3)


def test_variants_of_a_codec_are_points_of_its_curve_and_its_best_make_the_line():
    made = [rival("hevc", 41, bpp=0.1, top1=60.0), rival("hevc@50", 31, bpp=0.12, top1=66.0),
            rival("hevc", 36, bpp=0.2, top1=65.0), rival("hevc-qp", 30, bpp=0.3, top1=70.0), rival("jpeg")]
    (jpeg, hevc) = compare(Results(tuple(made))).curves
    assert hevc.name == "HEVC" and [point.setting for point in hevc.points] == ["41", "hevc@50 31", "36", "hevc-qp 30"]
    assert [point.setting for point in hevc.line()] == ["41", "hevc@50 31", "hevc-qp 30"] and hevc.kind == jpeg.kind == RIVAL


def test_our_points_all_belong_to_the_line_and_are_pooled_where_they_fall():
    made = [record(factor=i, bpp=bpp, top1=top1) for i, (bpp, top1) in enumerate([(0.1, 60.0), (0.2, 66.0), (0.8, 64.0)])]
    (ours,) = compare(Results(tuple(made))).curves
    assert ours.kind == OURS and len(ours.line()) == 3
    rates, accuracies = rising(ours)
    assert rates.tolist() == pytest.approx([0.1, 0.4]) and accuracies.tolist() == [60.0, 65.0]


@pytest.mark.parametrize("name, kind", [("S1", OURS), ("S1 hyperprior", OURS), ("HEVC", RIVAL), ("S1 JPEG", RIVAL),
                                        ("S3 hevc-tiles", RIVAL), ("Entropic Student", RIVAL), ("Label", ANSWER)])
def test_a_name_tells_the_kind_of_a_curve(name, kind):
    assert kind_of(name) == kind


def test_coders_are_named_only_where_they_differ(tmp_path):
    both = read([write(tmp_path, record(), record(coder="rans", bpp=0.09), record("S2"))])
    assert [c.name for c in both.curves] == ["S1 huffman", "S1 rans", "S2"]


def test_arithmetic_is_named_in_words(tmp_path):
    both = read([write(tmp_path, record(), record(amp=True, bpp=0.09))])
    assert [c.name for c in both.curves] == ["S1 amp", "S1 no amp"]


def test_seeds_become_a_mean_with_deviation(tmp_path):
    records = [record(seed=seed, top1=70.0 + 2 * seed) for seed in range(3)]
    comparison = read([write(tmp_path, *records)])
    (point,) = comparison.curves[0].points
    assert (point.accuracy, point.accuracy_deviation, point.seeds) == (72.0, 2.0, 3)


def test_of_two_equal_records_the_one_with_costs_counts():
    with_costs = record(costs=Costs(edge_seconds=0.5))
    for order in ([record(), with_costs], [with_costs, record()]):
        (point,) = compare(Results(tuple(order))).curves[0].points
        assert point.cost("edge_seconds") == 0.5 and point.seeds == 1


def test_pictures_without_labels_are_compared_by_agreement():
    unlabelled = [dataclasses.replace(record(factor=i, bpp=0.1 + i), scores={"agreement": 90.0 + i}, baseline={}) for i in range(2)]
    comparison = compare(Results(tuple(unlabelled)))
    assert comparison.unit.key == "agreement" and comparison.baseline == 100.0
    assert summaries.points(comparison)[1]["agreement"] == 91.0
    with pytest.raises(SpicError, match="with and without labels"):
        compare(Results((*unlabelled, record(factor=3))))


def test_a_missing_codec_stands_in_the_notes(tmp_path):
    assert "avif is missing: this Pillow has none" in read(
        [write(tmp_path, rival(), missing={"avif": "this Pillow has none"})]).notes


def test_points_that_cannot_be_drawn_stay_in_the_table_and_are_named(tmp_path):
    comparison = read([write(tmp_path, record(), record(factor=1, top1=math.nan), record(factor=2, bpp=0.0))])
    assert len(summaries.points(comparison)) == 3
    assert len(comparison.curves[0].drawable()) == 1
    assert sum("is not drawn" in note for note in comparison.notes) == 2


@pytest.mark.parametrize("records, words", [
    ([record(), record(benchmark="imagenette")], "different data sets.*results.json"),
    ([record(), record(images=100)], "different numbers of images"),
    ([record(), record(factor=1, baseline=60.0)], "different networks"),
    ([record(), record(top1=71.0)], "results.json differ but name the same seed"),
])
def test_what_does_not_belong_into_one_figure_is_refused(tmp_path, records, words):
    with pytest.raises(SpicError, match=words):
        read([write(tmp_path, *records)])


@pytest.mark.parametrize("content", ["", "{", "[1, 2"])
def test_a_file_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "broken.json").write_text(content)
    with pytest.raises(SpicError, match="broken.json: not JSON"):
        read([tmp_path / "broken.json"])


def test_a_folder_is_searched_and_foreign_json_in_it_passed_over(tmp_path):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", record())
    (tmp_path / "state.json").write_text('{"epoch": 3}')
    (tmp_path / "list.json").write_text("[1]")
    assert len(read([tmp_path]).curves) == 1


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(SpicError, match="no results found"):
        read([tmp_path])
