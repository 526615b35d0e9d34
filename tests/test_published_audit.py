"""The audit: rates with known answers, the pairing of points and markers, and the findings on the published tables."""

import math
from pathlib import Path

import pytest

from spic.coding.tables import FrequencyTable
from spic.points import OperatingPoint
from spic.published.audit import audit_source, match, rans_overhead, rates, symbol_shape
from spic.published.audit_report import UNCODED_VALUES, render

PUBLISHED = Path(__file__).parents[1].parent / "shared" / "paper" / "published"


def point(task: str, split_point: str, stride: int, channels: int) -> OperatingPoint:
    return OperatingPoint(task, "any", split_point, 0, 1.0, stride, channels, Path("w"), Path("t"))


def test_rates_of_a_table_with_a_known_code():
    """Counts 8, 4, 3 and the end of file 1: lengths 1, 2, 3 (and 3)."""
    r = rates(FrequencyTable({0: 8, 1: 4, 3: 3}, 1.0), (2, 5, 5), 10)
    entropy = (8 * math.log2(15 / 8) + 4 * math.log2(15 / 4) + 3 * math.log2(15 / 3)) / 15
    assert r.entropy_bits == pytest.approx(entropy)
    assert r.huffman_bits == pytest.approx((8 + 2 * 4 + 3 * 3) / 15)
    assert r.entropy_bpp == pytest.approx(entropy * 50 / 100)
    assert r.huffman_bpp == pytest.approx((r.huffman_bits * 50 + 3.5) / 100)
    assert r.images == pytest.approx(15 / 50) and r.gaps == 1


def test_rans_needs_no_more_than_a_few_bytes_above_the_entropy():
    table = FrequencyTable({0: 900_000, 1: 90_000, 2: 9_000, 3: 1_000}, 1.0)
    assert -0.5 < rans_overhead(table, (32, 16, 16)) < 3


@pytest.mark.parametrize("arguments, shape", [
    (("classification", "S1", 2, 128), (128, 4, 4)), (("classification", "US2", 4, 96), (96, 2, 2)),
    (("classification", "S3", 2, 64), (64, 7, 7)), (("segmentation", "US1", 6, 24), (24, 11, 11)),
    (("segmentation", "S1", 8, 2), (2, 8, 8)), (("segmentation", "S3", 4, 96), (96, 16, 16)),
])
def test_shape_of_the_symbols(arguments, shape):
    assert symbol_shape(point(*arguments)) == shape


def test_markers_are_paired_in_order_and_the_odd_one_is_left_out():
    markers = [(0.010, 60.0), (0.015, 65.0), (0.021, 70.0)]
    assert match([0.0099, 0.02], markers) == [markers[0], markers[2]]
    assert match([0.0099, 0.0148, 0.02, 0.5], markers) == [*markers, None]
    assert match([0.1, 0.2, 0.3], markers) == markers


def test_the_uncoded_branches_of_the_published_s1():
    assert UNCODED_VALUES == 3_245_056


@pytest.fixture(scope="module")
def audits():
    if not PUBLISHED.is_dir():
        pytest.skip(f"{PUBLISHED} is absent")
    return {(a.point.task, a.point.split_point, a.point.compress_factor): a for a in audit_source(str(PUBLISHED))}


def test_every_published_table_is_audited(audits):
    assert len(audits) == 61
    assert sum(a.checkpoint is not None for a in audits.values()) == 13
    for audit in audits.values():
        assert audit.rates.entropy_bpp <= audit.rates.rans_bpp + 1e-6 < audit.rates.huffman_bpp
        assert audit.rates.overhead <= 1.5 and audit.rates.images == round(audit.rates.images)


def test_the_published_findings(audits):
    worst = audits["segmentation", "S2", 5].rates
    assert (round(worst.entropy_bits, 2), round(worst.huffman_bits, 2)) == (0.37, 1.07)
    us2 = [a.difference for a in audits.values() if (a.point.task, a.point.split_point) == ("classification", "US2")]
    assert max(map(abs, us2)) < 0.04
    assert audits["classification", "US2", 1].rates.images == 50_000
    assert audits["classification", "S3", 0].rates.images == 1_331_167
    assert audits["segmentation", "S2", 2].rates.images == 3_899


def test_the_report_says_it_in_sentences(audits):
    lines = render(list(audits.values())).splitlines()
    assert sum(line.startswith(("| classification", "| segmentation")) for line in lines) == 61
    text = "\n".join(lines)
    for fact in ("classification US2: the figure's curve agrees with its tables", "it never received a gradient",
                 "3,245,056 values per image, are not coded", "1.07 bits a symbol where 0.37 would do",
                 "0.57 M of 25.55 M parameters (classification) is printed as 0.02% and is 2.2%",
                 "0.34 M of 42.01 M parameters (segmentation) is printed as 0.008% and is 0.8%",
                 "classification S2 and US1 have the same bpp at all 6 markers", "50,000 images, the size of Ima"):
        assert fact in text, fact
