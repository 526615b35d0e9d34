"""One bottleneck at several steps against the points of a curve: which of them does it replace?

    spic recount --task classification --benchmark imagenette --data imagenette2-160 --split_point S1 --step 0.25 0.5 1 2 4 \
        --output runs/steps
    python bench/requantised.py --task classification --benchmark imagenette --data imagenette2-160 --split_point S1 \
        --requantised runs/steps/dict.yaml

All points go through one pass over the same pictures. A bottleneck replaces a point if its curve, between its steps, lies at
most --within points of accuracy lower at the point's bytes. Neighbours in the wrong order are pooled, as in every curve.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spic.coding import CODERS
from spic.coding.counting import KINDS
from spic.commands import Parser, guarded, natural, positive, strength
from spic.curves.bjontegaard import risen
from spic.errors import SpicError
from spic.points import DICT_FILE, SHARED, OperatingPoint, load_points, select
from spic.record import Record
from spic.report import aligned
from spic.tasks import TASKS
from spic.val import measure_points

Curves = Mapping[OperatingPoint, Sequence[Record]]
"""A shipped point, whose bottleneck it is, and its records by all steps."""


def by_bottleneck(points: Sequence[OperatingPoint], made: Sequence[OperatingPoint], records: Sequence[Record]) -> Curves:
    """The records of requantised points, sorted by the weights they share with a shipped point."""
    owners = {point.weights.relative_to(point.root): point for point in reversed(points)}
    found: dict[OperatingPoint, list[Record]] = {}
    for point, record in zip(made, records):
        owner = owners.get(point.weights.relative_to(point.root))
        if owner is None:
            raise SpicError(f"{point.name} of {point.root}: has the bottleneck of none of the points it is compared with")
        found.setdefault(owner, []).append(record)
    return dict(sorted(found.items(), key=lambda item: item[0].compress_factor))


def gap(record: Record, curve: Sequence[Record]) -> float:
    """Points of accuracy by which a curve lies above a record at its bytes; NaN below the curve's fewest."""
    coded = [other for other in curve if other.bpp > 0]  # a point of no bytes at all has no logarithm
    rates, scores = risen([other.bpp for other in coded], [other.accuracy for other in coded], True)
    if not coded or record.bpp < rates[0]:
        return math.nan
    unit = record.of.accuracy(record.scores).drop
    return (float(np.interp(math.log(record.bpp), np.log(rates), scores)) - record.accuracy) / unit


def replaced(gaps: Mapping[OperatingPoint, Sequence[float]], within: float) -> dict[OperatingPoint, set[int]]:
    """Bottleneck → the places of the points that it replaces, each gap being one point's."""
    return {owner: {place for place, value in enumerate(values) if value >= -within} for owner, values in gaps.items()}


def fewest(stands_for: Mapping[OperatingPoint, set[int]], count: int) -> list[OperatingPoint]:
    """Bottlenecks that together replace as many points as all do, each the one that adds most; of equals the first."""
    chosen: list[OperatingPoint] = []
    left = set(range(count))
    while best := max(stands_for, key=lambda owner: len(stands_for[owner] & left), default=None):
        if not stands_for[best] & left:
            break
        chosen.append(best)
        left -= stands_for[best]
    return chosen


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.1f}"


def _name(point: OperatingPoint) -> str:
    return f"{point.split_point}/{point.compress_factor}"


def tell(points: Sequence[OperatingPoint], shipped: Sequence[Record], made: Sequence[OperatingPoint], curves: Curves, within: float
         ) -> None:
    """Print what the bottlenecks cost at their steps, how far they lie from the shipped points, and what that saves."""
    steps = sorted({point.step for point in made})
    score = shipped[0].of.accuracy(shipped[0].scores)
    print(aligned([{"bottleneck": _name(owner), **{f"step {step:g}": f"{score.text(record.accuracy)} @ {record.bytes_per_image:.1f}"
                                                   for step, record in zip(steps, curve)}} for owner, curve in curves.items()]))
    gaps = {owner: [gap(record, curve) for record in shipped] for owner, curve in curves.items()}
    print("\npoints of accuracy above a shipped point at its bytes (nothing: it has no point of so few bytes)")
    print(aligned([{"shipped": _name(point), score.label: score.text(record.accuracy), "bytes": f"{record.bytes_per_image:.1f}",
                    **{f"by {_name(owner)}": _signed(values[place]) for owner, values in gaps.items()}}
                   for place, (point, record) in enumerate(zip(points, shipped))]))
    stands_for = replaced(gaps, within)
    chosen = fewest(stands_for, len(points))
    size = {owner: owner.weights.stat().st_size for owner in points}
    print(f"\nwithin {within:g} points:")
    for owner, places in stands_for.items():
        print(f"{_name(owner)} replaces {len(places)} of {len(points)}: {', '.join(_name(points[i]) for i in sorted(places))}")
    kept = sorted(set(chosen) | {points[i] for i in set(range(len(points))) - set().union(*stands_for.values())},
                  key=lambda point: point.compress_factor)
    print(f"kept: {', '.join(map(_name, kept))}; weights {sum(size[p] for p in kept) / 1e3:.1f} of {sum(size.values()) / 1e3:.1f} kB")


def run(args: argparse.Namespace) -> None:
    asked = args.task, args.benchmark, [args.split_point]
    points = select(load_points(args.points.resolve()), *asked, ["all"])
    made = select(load_points(args.requantised.resolve()), *asked, ["all"])
    variants = [point.with_tables(args.tables) for point in (*points, *made)]
    records = measure_points(variants, valdir=args.data, coder=args.coder, limit=args.limit, workers=args.workers, rdo=args.rdo)
    shipped, others = records[:len(points)], records[len(points):]
    tell(points, shipped, made, by_bottleneck(points, made, others), args.within)


def main(argv: list[str] | None = None) -> int:
    parser = Parser("bench/requantised.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--task", choices=TASKS, required=True)
    add("--benchmark", default="scenes")
    add("--split_point", default="S1")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml")
    add("--requantised", type=Path, required=True, help="the dict.yaml that spic recount --step made of these points")
    add("--data", type=Path, help="folder of the pictures; scenes are drawn")
    add("--limit", type=positive, help="use only so many pictures")
    add("--workers", type=natural, default=0, help="processes that load pictures")
    add("--coder", choices=CODERS, default="rans")
    add("--tables", choices=KINDS, default=SHARED)
    add("--rdo", type=strength, default=0.0, help="strength of the choice of symbols")
    add("--within", type=strength, default=0.5, help="points of accuracy that a bottleneck may lie lower")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
