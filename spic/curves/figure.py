"""The figure: accuracy over bits per pixel (logarithmic), one line per curve, dashed for the uncompressed network.

Colours are Okabe and Ito's, which colour-blind readers tell apart; every curve also has its own marker, and the line
styles group them (solid S, dashed US, thin codecs, dotted learned rivals), so that a grey print is readable too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle, pairwise

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import CARETDOWNBASE
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from spic.curves.comparison import OURS, RATES, Comparison, Curve, Point
from spic.errors import SpicError

BLUE, VERMILION, GREEN, SKY, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00", "#CC79A7"
BLACK, GREY = "#000000", "#7F7F7F"
VIOLET, BROWN, WINE = "#5D3A9B", "#994F00", "#882255"  # darker than any other here, and safe for the colour-blind too
NAVY, OLIVE = "#1A237E", "#7A6F00"
SIZE = (7.2, 4.8)  # inches
DPI = 200
METADATA = {"png": {"Software": None}, "svg": {"Date": None}}  # no version and no date in the files
FLOOR = 0.6  # of the uncompressed accuracy: what goes on below it is not shown
MARGIN = 0.97  # below the lowest point of a curve
GAP = 4  # neighbours whose bits differ by more than this factor are joined by a faint line
TICKS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))  # of a decade; the first that shows three numbers
NOWHERE = Point("", math.nan, math.nan, bpp_deviation=math.nan, accuracy_deviation=math.nan)  # breaks a line


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    line: str = "-"
    width: float = 1.2
    hollow: bool = False
    size: float = 5.5


def _split(colour: str, marker: str, size: float) -> Style:
    return Style(colour, marker, width=2.0, size=size)


def _unsupervised(colour: str, marker: str, size: float) -> Style:
    return Style(colour, marker, "--", width=2.0, hollow=True, size=size)


STYLES = {
    "S1": _split(VERMILION, "*", 11), "S2": _split(BLUE, "D", 6), "S3": _split(GREEN, "^", 7.5),
    "US1": _unsupervised(VERMILION, "*", 11), "US2": _unsupervised(BLUE, "D", 6),
    "US3": _unsupervised(GREEN, "^", 7.5),
    "JPEG": Style(BLACK, "o"), "WebP": Style(PURPLE, "s"), "JPEG 2000": Style(GREY, "x", size=6),
    "AVIF": Style(ORANGE, "P", size=6.5), "AV1": Style(WINE, ">", "-.", hollow=True),
    "HEVC": Style(SKY, "v", size=6.5),
    "Label": Style(NAVY, "p", ":", size=8), "Class map": Style(NAVY, "p", ":", size=8),
    "Scale hyperprior": Style(OLIVE, "H", "-.", hollow=True, size=6.5),
    "Variational": Style(VIOLET, "h", ":", size=6.5), "Entropic Student": Style(BROWN, "X", ":", size=6.5),
}
LEGEND_LETTERS, HANDLE_LETTERS = 108, 7
"""Letters that fit below a figure side by side; of those the room that a line before a name takes."""
SPARE_COLOURS = (BLACK, SKY, GREEN, PURPLE, BLUE, GREY)
SPARE = [Style(colour, marker, ":", hollow=True) for marker, colour in zip("<pHd8s", SPARE_COLOURS)]


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    """A known curve always looks the same; others take the spare styles in turn."""
    spare = cycle(SPARE)
    return {name: STYLES[name] if name in STYLES else next(spare) for name in names}


def draw(comparison: Comparison) -> Figure:
    """A matplotlib figure; SpicError when no point can be drawn."""
    if not any(curve.drawable() for curve in comparison.curves):
        raise SpicError("nothing to draw: no result has a finite accuracy and a rate above zero")
    figure = Figure(SIZE, layout="constrained")
    axes = figure.add_subplot()
    styles = styles_of(curve.name for curve in comparison.curves)
    for curve in comparison.curves:
        _draw_curve(axes, curve, styles[curve.name])
    _draw_baseline(axes, comparison)
    _dress(axes, comparison)
    for curve in comparison.curves:
        _mark_exit(axes, comparison, curve, styles[curve.name])
    handles = [container[0] for container in axes.containers]
    names = [container.get_label() for container in axes.containers]
    columns = 4 if len(comparison.curves) > 6 else max(3, math.ceil(len(comparison.curves) / 2))
    columns = max(1, min(columns, LEGEND_LETTERS // (HANDLE_LETTERS + max(map(len, names), default=0))))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3)
    return figure


def _draw_curve(axes: Axes, curve: Curve, style: Style) -> None:
    """Markers and line, error bars behind them in the curve's colour; faint across a stretch without points, and without a
    line where another setting of the same rival is better."""
    points = curve.line()
    if not points:
        return
    beaten = [point for point in curve.drawable() if point not in points]
    axes.plot([p.bpp for p in beaten], [p.accuracy for p in beaten], style.marker, color=style.colour, alpha=0.3,
              markersize=0.6 * style.size, markeredgewidth=0.8)
    several = any(point.seeds > 1 for point in points)
    broken = [entry for point, following in pairwise([*points, None]) for entry in
              ([point, NOWHERE] if following and is_gap(point, following) else [point])]
    axes.errorbar(
        [p.bpp for p in broken], [p.accuracy for p in broken],
        xerr=[p.bpp_deviation for p in broken] if several else None,
        yerr=[p.accuracy_deviation for p in broken] if several else None,
        label=curve.name, color=style.colour, marker=style.marker, linestyle=style.line, linewidth=style.width,
        markersize=style.size, markerfacecolor="white" if style.hollow else style.colour, markeredgewidth=1.2,
        capsize=2.0, elinewidth=0.8, ecolor=style.colour, barsabove=False,
    )
    for first, second in gaps(curve):
        axes.plot([first.bpp, second.bpp], [first.accuracy, second.accuracy], color=style.colour, linewidth=0.8, alpha=0.45,
                  zorder=1.8)


def is_gap(first: Point, second: Point) -> bool:
    """Whether so much rate lies between neighbours that a line there would claim what was not measured."""
    return second.bpp > GAP * first.bpp


def gaps(curve: Curve) -> list[tuple[Point, Point]]:
    """Neighbours that no solid line joins."""
    return [pair for pair in pairwise(curve.line()) if is_gap(*pair)]


def _draw_baseline(axes: Axes, comparison: Comparison) -> None:
    if math.isfinite(comparison.baseline):
        axes.axhline(comparison.baseline, color=GREY, linestyle=(0, (6, 3)), linewidth=1.5, zorder=1.5)
        axes.annotate("uncompressed", (0.01, comparison.baseline), xycoords=("axes fraction", "data"), color="#555555",
                      xytext=(0, 3), textcoords="offset points", fontsize=9, style="italic")


def _dress(axes: Axes, comparison: Comparison) -> None:
    images = f", {comparison.images} images" if comparison.images else ""
    axes.set_title(comparison.title or f"{comparison.task.capitalize()} on {comparison.benchmark}{images}", fontsize=11)
    axes.set_xscale("log")
    remarks = "; ".join(remarks_on(comparison))
    axes.set_xlabel(RATES.get(comparison.rate, "bits per pixel") + (f"\n({remarks})" if remarks else ""), fontsize=9)
    axes.set_ylabel(comparison.unit.axis)
    axes.margins(x=0.04, y=0.08)
    axes.xaxis.set_major_locator(FixedLocator(rate_ticks(*axes.get_xlim())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(10, subs="auto", numticks=50))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#CCCCCC", linewidth=0.7)
    axes.grid(True, which="minor", axis="x", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
    if axes.get_ylim()[0] < floor(comparison):
        axes.set_ylim(bottom=floor(comparison))


def rate_ticks(low: float, high: float) -> list[float]:
    """Where the axis has numbers: at powers of ten if three of them are in sight, else closer together."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in TICKS:
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        if len(seen := [tick for tick in ticks if low <= tick <= high]) >= 3:
            return seen
    return [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]


def remarks_on(comparison: Comparison) -> list[str]:
    """What a reader must know to read this figure, for the line under its axis."""
    points = [point for curve in comparison.curves for point in curve.drawable()]
    seeds = sorted({point.seeds for point in points if point.seeds > 1})
    number = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) if seeds else ""
    remarks = [f"bars: standard deviation over {number} seeds"] if seeds else []
    if any(map(gaps, comparison.curves)):
        remarks.append(f"faint line: no point within a factor of {GAP} of bits")
    if any(point.accuracy < floor(comparison) for point in points):
        remarks.append("arrow: goes on below, down to the number")
    return remarks


def floor(comparison: Comparison) -> float:
    """Lowest accuracy that is shown: a curve that breaks down at its lowest rates would squeeze the rest. One of ours that lies
    below altogether is shown, too."""
    lowest = FLOOR * comparison.baseline
    scores = [([point.accuracy for point in curve.drawable()], curve.kind) for curve in comparison.curves]
    if not any(max(found, default=-math.inf) >= lowest for found, _ in scores):
        return -math.inf
    return min([lowest, *(MARGIN * min(found) for found, kind in scores if kind == OURS and found and max(found) < lowest)])


def _mark_exit(axes: Axes, comparison: Comparison, curve: Curve, style: Style) -> None:
    """An arrow where a curve leaves the figure below, with the lowest accuracy it comes to."""
    points, bottom = curve.line(), floor(comparison)
    below = [point for point in points if point.accuracy < bottom]
    if not below:
        return
    rate = exit_rate(points, bottom)
    axes.plot([rate], [0.0], transform=axes.get_xaxis_transform(), marker=CARETDOWNBASE, color=style.colour, markersize=7,
              linestyle="none", clip_on=False, zorder=4)
    axes.annotate(comparison.unit.text(min(point.accuracy for point in below)), (rate, 0.0),
                  xycoords=("data", "axes fraction"), xytext=(4, 4), textcoords="offset points", fontsize=7,
                  color=style.colour)


def exit_rate(points: list[Point], bottom: float) -> float:
    """Where the line of a curve first crosses an accuracy, from the right; the rightmost point where all lie below."""
    for lower, upper in reversed(list(pairwise(points))):
        if lower.accuracy < bottom <= upper.accuracy:
            share = (bottom - lower.accuracy) / (upper.accuracy - lower.accuracy)
            return lower.bpp * (upper.bpp / lower.bpp) ** share
    return max(point.bpp for point in points if point.accuracy < bottom)


def rendered(figure: Figure) -> dict[str, bytes]:
    """{"png": bytes, "svg": bytes}; the same figure gives the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "spic", "svg.fonttype": "none"}):
        return {kind: _save(figure, kind, metadata) for kind, metadata in METADATA.items()}


def _save(figure: Figure, kind: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
