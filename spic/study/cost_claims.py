"""The claims about cost: bottlenecks are cheap, and one network in memory serves many rates."""

from __future__ import annotations

import statistics

from spic.study.claims import ABSENT, FAILS, HOLDS, OPEN, Finding, combined, judged
from spic.study.measured import Measured

CHEAP = 0.05  # of the front's parameters and operations, for the encoder
QUICK = 0.10  # of the time of training the network, for training one point


def cost(measured: Measured) -> Finding:
    """Is the encoder at most 5 % of the front, and the training of a point at most 10 % of the network's?"""
    costs = measured.costs()
    if not costs:
        return Finding(ABSENT)
    rows = costs["costs"]
    shares = {key: max(row[f"encoder_{key}"] / row[f"front_{key}"] for row in rows) for key in ("parameters", "macs")}
    table = [{"split point": row["split_point"], "stride x channels": f"{row['stride']} x {row['channels']}",
              "front": _size(row, "front"), "encoder": _size(row, "encoder"), "decoder": _size(row, "decoder"),
              "encoder / front": _share(row)} for row in rows]
    times, share = _training(measured, costs["network"]["training_seconds"])
    units = judged([value <= CHEAP for value in shares.values()])
    sentence = (f"the encoder has at most {shares['parameters']:.1%} of the front's parameters and "
                f"{shares['macs']:.1%} of its multiply-accumulates; training time {_told(share)}")
    training = OPEN if share is None else HOLDS if share <= QUICK else FAILS
    return Finding(combined([units, training]), sentence, (table, times) if times else (table,))


def _size(row: dict, part: str) -> str:
    return f"{row[f'{part}_parameters']:,} parameters, {row[f'{part}_macs'] / 1e6:,.2f} MMACs"


def _share(row: dict) -> str:
    shares = [row[f"encoder_{key}"] / row[f"front_{key}"] for key in ("parameters", "macs")]
    return ", ".join(f"{share:.1%}" for share in shares)


def _told(share: float | None) -> str:
    return "not measured yet" if share is None else f"of a point at most {share:.1%} of the network's"


def _training(measured: Measured, network: float) -> tuple[list[dict], float | None]:
    """Seconds on one core of the study's trainings against the network's; the features of the front not counted."""
    rows, shares = [], []
    for (split_point, estimator), lines in sorted(measured.last_lines().items()):
        seconds = [line["seconds"] for line in lines if line["seconds"]]
        if seconds:
            shares.append(statistics.median(seconds) / network)
            rows.append({"split point": split_point, "estimator": estimator, "trainings": len(seconds),
                         "s, median": f"{statistics.median(seconds):.0f}", "s, network": f"{network:.0f}",
                         "share": f"{shares[-1]:.1%}"})
    return rows, max(shares, default=None)


def switching(measured: Measured) -> Finding:
    """Does a change of the rate leave the network in memory alone, and cost less time than loading it?"""
    costs = measured.costs()
    if not costs:
        return Finding(ABSENT)
    load, rows, memory = costs["network"]["load_seconds"], costs["costs"], 4 * costs["network"]["parameters"]
    table = [{"split point": row["split_point"], "stride x channels": f"{row['stride']} x {row['channels']}",
              "ms to switch": f"{1e3 * row['switch_seconds']:.1f}", "ms to load the network": f"{1e3 * load:.1f}",
              "bottleneck in memory (kB)": f"{_bytes(row) / 1e3:.1f}",
              "its file (kB)": f"{row['bottleneck_bytes'] / 1e3:.1f}",
              "network in memory (kB)": f"{memory / 1e3:,.0f}",
              "network untouched": "yes" if row["network_untouched"] else "no"} for row in rows]
    slowest, share = max(row["switch_seconds"] for row in rows), max(map(_bytes, rows)) / memory
    sentence = (f"switching takes at most {1e3 * slowest:.0f} ms, loading the network {1e3 * load:.0f} ms; a "
                f"bottleneck needs at most {share:.1%} of the network's memory")
    votes = [row["network_untouched"] and row["switch_seconds"] < load for row in rows]
    return Finding(judged(votes), sentence, (table,))


def _bytes(row: dict) -> int:
    """Of a bottleneck's parameters in memory, float32."""
    return 4 * (row["encoder_parameters"] + row["decoder_parameters"])
