"""Tables beside the figure: all points, Bjøntegaard deltas, bits at equal accuracy, edge cost, time to answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from spic.curves.bjontegaard import Delta, bd_accuracy, bd_rate, bound_at, rate_at, rate_text
from spic.curves.comparison import Comparison, Curve, Point

LINKS = {"50 kbit/s": 50e3, "200 kbit/s": 200e3, "1 Mbit/s": 1e6, "5 Mbit/s": 5e6, "20 Mbit/s": 20e6,
         "100 Mbit/s": 100e6}
UNCODED_BYTES = 4
EDGE_STAGES, CLOUD_STAGES = ("front", "encoder", "encode"), ("decode", "decoder", "back", "network")
SHARES = {
    "encoder parameters %": ("encoder_parameters", "front_parameters"), "encoder MACs %": ("encoder_macs", "front_macs"),
    "decoder parameters %": ("decoder_parameters", "front_parameters"), "decoder MACs %": ("decoder_macs", "front_macs"),
    "file %": ("bottleneck_bytes", "backbone_bytes"),
}

Table = list[dict]


def points(comparison: Comparison) -> Table:
    """One row per point, drawn or not."""
    return [
        {
            "task": comparison.task, "benchmark": comparison.benchmark, "curve": curve.name, "setting": point.setting,
            "bpp": point.at("bpp"), "bpp_wire": point.bpp_wire,
            comparison.unit.key: point.accuracy, f"baseline_{comparison.unit.key}": comparison.baseline,
            "seeds": point.seeds, f"{comparison.rate}_deviation": point.bpp_deviation,
            f"{comparison.unit.key}_deviation": point.accuracy_deviation,
            "images": "" if comparison.images is None else comparison.images,
        }
        for curve in comparison.curves for point in curve.points
    ]


def _interval(delta: Delta, form: str) -> str:
    return "" if delta.note else f"{delta.low:{form}} to {delta.high:{form}}"


def deltas(comparison: Comparison, anchors: Sequence[str] = ()) -> Table:
    """BD-rate and BD-accuracy of every curve against every other, or against the anchors only."""
    form = f".{comparison.unit.digits}f"
    rows = []
    for anchor in comparison.curves:
        for test in comparison.curves:
            if anchor is test or (anchors and anchor.name not in anchors):
                continue
            rate, gain = bd_rate(anchor, test), bd_accuracy(anchor, test)
            rows.append({
                "anchor": anchor.name, "curve": test.name, "BD-rate (%)": rate.text("+.2f"),
                f"over {comparison.unit.key}": _interval(rate, form), "BD-accuracy": gain.text("+" + form),
                "over bpp": _interval(gain, ".4g"),
            })
    return rows


def rates_at_equal_accuracy(comparison: Comparison) -> Table:
    """Bits per pixel each curve needs at one point under the uncompressed network, and against the cheapest."""
    accuracy = comparison.uncompressed(drop=1)
    rates = {curve.name: rate_at(curve, accuracy) for curve in comparison.curves}
    least = min((rate for rate in rates.values() if math.isfinite(rate)), default=math.nan)
    named = f"bpp at {accuracy:.{comparison.unit.digits}f}"

    def place(curve: Curve) -> float:
        known = [rate for rate in (rates[curve.name], bound_at(curve, accuracy)) if math.isfinite(rate)]
        return known[0] if known else math.inf

    return [
        {"curve": curve.name, named: rate_text(curve, accuracy),
         "times the least": f"{rates[curve.name] / least:.1f}" if math.isfinite(rates[curve.name]) else ""}
        for curve in sorted(comparison.curves, key=place)
    ]


def _seconds(point: Point, key: str, stages: Iterable[str]) -> float:
    """Seconds per image: the latency of one image where it was measured, else the run's sum divided by its images."""
    latency = point.cost(key)
    if math.isfinite(latency) or not point.records:
        return latency
    record = point.records[0]
    found = [record.seconds[stage] for stage in stages if stage in record.seconds]
    return sum(found) / record.images if found else math.nan


def sent_bytes(point: Point) -> float:
    """Mean bytes per image on the wire: payload and all that travels with it; uncoded values as float32."""
    payload = point.mean(lambda record: record.bytes_per_image)
    ratio = point.bpp_wire / point.payload_bpp if point.payload_bpp else 1.0
    return payload * ratio + UNCODED_BYTES * point.mean(lambda record: record.uncoded_values_per_image)


def time_to_answer(comparison: Comparison) -> Table:
    """Milliseconds from picture to prediction: edge, transfer over the link, cloud. Link latency is not counted."""
    rows = []
    for curve in comparison.curves:
        for point in curve.drawable():
            edge = _seconds(point, "edge_seconds", EDGE_STAGES if not point.records[0].codec else ("encode",))
            cloud = _seconds(point, "cloud_seconds", CLOUD_STAGES)
            size = sent_bytes(point)
            waits = {link: _milliseconds(edge + 8 * size / speed + cloud) for link, speed in LINKS.items()}
            rows.append({
                "curve": curve.name, "setting": point.setting,
                comparison.unit.key: f"{point.accuracy:.{comparison.unit.digits}f}", "bytes": f"{size:.0f}",
                "edge ms": _milliseconds(edge), "cloud ms": _milliseconds(cloud), **waits,
            })
    return rows


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if math.isfinite(seconds) else "not measured"


def edge_cost(comparison: Comparison) -> Table:
    """Bits, accuracy and what the edge pays: parameters, multiply-accumulates, latency.

    What the bottleneck adds is in percent: encoder (on the edge) and decoder (in the cloud) of the front, and the
    bytes of its weights file of those of the backbone.
    """
    return [
        {
            "curve": curve.name, "setting": point.setting, "bpp": f"{point.bpp:.4g}",
            comparison.unit.key: f"{point.accuracy:.{comparison.unit.digits}f}",
            "edge parameters": _count(point.cost("edge_parameters")),
            "edge MMACs": _count(point.cost("edge_macs"), 1e6),
            "edge ms": _milliseconds(_seconds(point, "edge_seconds", EDGE_STAGES)),
            **{title: _percent(point.cost(part), point.cost(whole)) for title, (part, whole) in SHARES.items()},
        }
        for curve in comparison.curves for point in curve.drawable()
    ]


def costs_are_known(comparison: Comparison) -> bool:
    """Whether the edge of any point was measured."""
    return any(math.isfinite(point.cost("edge_seconds")) for curve in comparison.curves for point in curve.points)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}" if math.isfinite(part) and whole > 0 else "not measured"


def _count(value: float, unit: float = 1.0) -> str:
    return f"{value / unit:,.0f}" if math.isfinite(value) else "not measured"
