"""The figure: accuracy over bits per pixel (logarithmic), one line per curve, dashed for the uncompressed network.

Colours are Okabe and Ito's, which colour-blind readers tell apart; every curve also has its own marker, and the line
styles group them (solid S, dashed US, thin codecs, dotted learned rivals), so that a grey print is readable too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from spic.curves.results import RATES, Comparison, Curve
from spic.errors import SpicError

BLUE, VERMILION, GREEN, SKY, ORANGE, PURPLE = "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00", "#CC79A7"
BLACK, GREY = "#000000", "#7F7F7F"
VIOLET, BROWN = "#5D3A9B", "#994F00"  # darker than any other here, and safe for colour-blind readers too
SIZE = (7.2, 4.8)  # inches
DPI = 200
METADATA = {"png": {"Software": None}, "svg": {"Date": None}}  # no version and no date in the files
FLOOR = 0.6  # of the uncompressed accuracy: nothing below is shown


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
    "AVIF": Style(ORANGE, "P", size=6.5), "AV1": Style(ORANGE, ">", "-.", hollow=True),
    "HEVC": Style(SKY, "v", size=6.5),
    "Variational": Style(VIOLET, "h", ":", size=6.5), "Entropic Student": Style(BROWN, "X", ":", size=6.5),
}
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
    columns = 4 if len(comparison.curves) > 6 else max(3, math.ceil(len(comparison.curves) / 2))
    handles = [container[0] for container in axes.containers]
    names = [container.get_label() for container in axes.containers]
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9, handlelength=3)
    return figure


def _draw_curve(axes: Axes, curve: Curve, style: Style) -> None:
    points = curve.drawable()
    if not points:
        return
    several = any(point.seeds > 1 for point in points)
    axes.errorbar(
        [p.bpp for p in points], [p.accuracy for p in points],
        xerr=[p.bpp_deviation for p in points] if several else None,
        yerr=[p.accuracy_deviation for p in points] if several else None,
        label=curve.name, color=style.colour, marker=style.marker, linestyle=style.line, linewidth=style.width,
        markersize=style.size, markerfacecolor="white" if style.hollow else style.colour, markeredgewidth=1.2,
        capsize=2.5, elinewidth=1.0, ecolor=BLACK, barsabove=True,
    )


def _draw_baseline(axes: Axes, comparison: Comparison) -> None:
    if math.isfinite(comparison.baseline):
        axes.axhline(comparison.baseline, color=GREY, linestyle=(0, (6, 3)), linewidth=1.5, zorder=1.5)
        axes.annotate("uncompressed", (0.01, comparison.baseline), xycoords=("axes fraction", "data"), color="#555555",
                      xytext=(0, 3), textcoords="offset points", fontsize=9, style="italic")


def _dress(axes: Axes, comparison: Comparison) -> None:
    images = f", {comparison.images} images" if comparison.images else ""
    axes.set_title(comparison.title or f"{comparison.task.capitalize()} on {comparison.benchmark}{images}", fontsize=11)
    axes.set_xscale("log")
    axes.set_xlabel(RATES.get(comparison.rate, "bits per pixel"))
    axes.set_ylabel(comparison.unit.label)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#CCCCCC", linewidth=0.7)
    axes.grid(True, which="minor", axis="x", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.04, y=0.08)
    # a rival that breaks down at its lowest rates would squeeze the rest: its line leaves the figure below
    if axes.get_ylim()[0] < FLOOR * comparison.baseline:
        axes.set_ylim(bottom=FLOOR * comparison.baseline)


def rendered(figure: Figure) -> dict[str, bytes]:
    """{"png": bytes, "svg": bytes}; the same figure gives the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "spic", "svg.fonttype": "none"}):
        return {kind: _save(figure, kind, metadata) for kind, metadata in METADATA.items()}


def _save(figure: Figure, kind: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
