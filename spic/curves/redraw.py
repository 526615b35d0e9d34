"""A figure from its own CSV: what was drawn once can be drawn again, in the present style, without measuring."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

from spic.curves.comparison import Comparison, Curve, Point, kind_of
from spic.errors import SpicError
from spic.tasks import AGREEMENT, TASKS

DEVIATION = "_deviation"


def read_csv(path: Path) -> Comparison:
    """The comparison that ``spic curves figure`` wrote as NAME.csv; SpicError for any other file."""
    try:
        rows = list(csv.DictReader(path.read_text().splitlines(), strict=True))
        return _comparison(rows)
    except OSError as error:
        raise SpicError(f"{path}: cannot be read ({error.strerror})") from None
    except (csv.Error, ValueError, KeyError, TypeError, StopIteration, IndexError) as error:
        raise SpicError(f"{path}: not the CSV of a figure's points ({error!r}); name the NAME.csv of a figure") from None


def read_notes(path: Path) -> tuple[str, ...]:
    """The remarks at the head of a figure's NAME.txt, before its first table; none where there is no such file."""
    if not path.exists():
        return ()
    paragraphs = path.read_text().split("\n\n")
    tables = [number for number, text in enumerate(paragraphs) if text.split()[:2] == ["curve", "bpp"]]
    return tuple(paragraphs[:tables[0]]) if tables else ()


def _comparison(rows: list[dict]) -> Comparison:
    first = rows[0]
    scores = [score.key for score in (*TASKS[first["task"]].scores, AGREEMENT)]
    score = next(key for key in scores if f"baseline_{key}" in first)
    rate = next(key.removesuffix(DEVIATION) for key in first if key.endswith(DEVIATION) and key != score + DEVIATION)
    column = "bpp_wire" if rate == "bpp_wire" else "bpp"
    curves: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        number = {key: float(row[key]) for key in ("bpp", "bpp_wire", score, rate + DEVIATION, score + DEVIATION)}
        curves[row["curve"]].append(Point(row["setting"], number[column], number[score], number["bpp_wire"],
                                          number[rate + DEVIATION], number[score + DEVIATION], int(row["seeds"]),
                                          number["bpp"]))
    ordered = tuple(Curve(name, tuple(sorted(points, key=lambda point: point.bpp)), kind_of(name))
                    for name, points in curves.items())
    return Comparison(first["task"], first["benchmark"], ordered, float(first[f"baseline_{score}"] or math.nan),
                      int(first["images"]) if first["images"] else None, rate=rate, score=score)
