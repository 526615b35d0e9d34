"""The claims about cost: bottlenecks are cheap, and one network in memory serves many rates."""

from __future__ import annotations

import statistics

from spic.record import Costs
from spic.study.claims import ABSENT, FAILS, HOLDS, OPEN, Finding, combined, judged
from spic.study.measured import Measured

CHEAP = 0.05  # of the front's parameters and operations, for the encoder
QUICK = 0.10  # of the time of training the network, for training one point


def cost(measured: Measured) -> Finding:
    """Is the encoder at most 5 % of the front, and the training of a point at most 10 % of the network's?"""
    effort = measured.effort()
    if effort is None:
        return Finding(ABSENT)
    shares = {key: max(_share(point.costs, key) for point in effort.points) for key in ("parameters", "macs")}
    table = [{"split point": point.split_point, "stride x channels": f"{point.stride} x {point.channels}",
              **{part: _size(point.costs, part) for part in ("front", "encoder", "decoder")},
              "encoder / front": ", ".join(f"{_share(point.costs, key):.1%}" for key in shares)} for point in effort.points]
    times, share = _training(measured, effort.training_seconds)
    units = judged([value <= CHEAP for value in shares.values()])
    sentence = (f"the encoder has at most {shares['parameters']:.1%} of the front's parameters and "
                f"{shares['macs']:.1%} of its multiply-accumulates; training time {_share_text(share)}")
    training = OPEN if share is None else HOLDS if share <= QUICK else FAILS
    return Finding(combined([units, training]), sentence, (table, times) if times else (table,))


def _size(costs: Costs, part: str) -> str:
    parameters, macs = (getattr(costs, f"{part}_{key}") for key in ("parameters", "macs"))
    return f"{parameters:,} parameters, {macs / 1e6:,.2f} MMACs"


def _share(costs: Costs, key: str) -> float:
    """Of the front's parameters or macs, what the encoder adds."""
    return getattr(costs, f"encoder_{key}") / getattr(costs, f"front_{key}")


def _share_text(share: float | None) -> str:
    return "not measured yet" if share is None else f"of a point at most {share:.1%} of the network's"


def _training(measured: Measured, network: float) -> tuple[list[dict], float | None]:
    """Seconds on one core of the study's trainings against the network's; the features of the front not counted."""
    rows, shares = [], []
    for (split_point, estimator), lines in sorted(measured.logged().items()):
        seconds = [line["seconds"] for line in lines if line["seconds"]]
        if seconds:
            shares.append(statistics.median(seconds) / network)
            rows.append({"split point": split_point, "estimator": estimator, "trainings": len(seconds),
                         "s, median": f"{statistics.median(seconds):.0f}", "s, network": f"{network:.0f}",
                         "share": f"{shares[-1]:.1%}"})
    return rows, max(shares, default=None)


def switching(measured: Measured) -> Finding:
    """Does a change of the rate leave the network in memory alone, and cost less time than loading it?"""
    effort = measured.effort()
    if effort is None:
        return Finding(ABSENT)
    load, memory = effort.load_seconds, 4 * effort.parameters
    table = [{"split point": point.split_point, "stride x channels": f"{point.stride} x {point.channels}",
              "ms to switch": f"{1e3 * point.switch_seconds:.1f}", "ms to load the network": f"{1e3 * load:.1f}",
              "bottleneck in memory (kB)": f"{_bytes(point.costs) / 1e3:.1f}",
              "its file (kB)": f"{point.costs.bottleneck_bytes / 1e3:.1f}",
              "network in memory (kB)": f"{memory / 1e3:,.0f}",
              "network untouched": "yes" if point.network_untouched else "no"} for point in effort.points]
    slowest = max(point.switch_seconds for point in effort.points)
    share = max(_bytes(point.costs) for point in effort.points) / memory
    sentence = (f"switching takes at most {1e3 * slowest:.0f} ms, loading the network {1e3 * load:.0f} ms; a "
                f"bottleneck needs at most {share:.1%} of the network's memory")
    votes = [point.network_untouched and point.switch_seconds < load for point in effort.points]
    return Finding(judged(votes), sentence, (table,))


def _bytes(costs: Costs) -> int:
    """Of a bottleneck's parameters in memory, float32."""
    return 4 * (costs.encoder_parameters + costs.decoder_parameters)
