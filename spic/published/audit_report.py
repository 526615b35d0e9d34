"""The audit in words: a Markdown table of all points, then plain sentences with numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import mean, median

from spic.published.audit import PointAudit, curves_of, published_curves

AGREES = 0.05
"""A figure's curve agrees with its tables if each of its markers lies within this share of the tables' bpp."""
_SAME_BPP = 0.005  # two readings of one marker differ by less
_BRANCHES, _CHANNELS, _SIDE = 5, 256, 65  # of ASPP
UNCODED_VALUES = (_BRANCHES - 2) * _CHANNELS * _SIDE**2 + _CHANNELS
"""Beside the coded branch: three of 256 x 65 x 65 values, and the pooled one, of 256 before it is spread out."""
_TABLE4 = {"classification": (0.57, 25.55, 0.02), "segmentation": (0.34, 42.01, 0.008)}
"""The paper's Table 4: millions of parameters of the bottleneck and of the network, and the share in percent as printed."""
_IMAGENET = {1281167: "training", 1281167 + 50000: "training and validation", 50000: "validation"}

SAVED = "rANS saves"
"""Begins the sentence that the study repeats beside its own symbols."""
_HEAD = ("| point | symbols | images counted | entropy bits/symbol | Huffman bits/symbol | entropy bpp | rANS bpp | "
         "Huffman bpp | wasted | figure bpp | figure/table |")


def render(audits: list[PointAudit]) -> str:
    """The whole report."""
    sections = (_rates, _symbols, _duplicates, _checkpoints, _branches, _overhead, _counted, _curves, _shared_markers)
    sentences = (f"- {sentence}" for section in sections for sentence in section(audits))
    return "\n".join([*_table(audits), "", *sentences])


def _table(audits: list[PointAudit]) -> Iterator[str]:
    yield _HEAD
    yield "|---" + "|--:" * (_HEAD.count("|") - 2) + "|"
    for audit in audits:
        r = audit.rates
        figure = ("", "") if audit.marker is None else (f"{audit.marker[0]:.5f}", f"{audit.difference:+.1%}")
        cells = (_name(audit), "x".join(map(str, r.shape)), f"{r.images:,.0f}", f"{r.entropy_bits:.3f}",
                 f"{r.huffman_bits:.3f}", f"{r.entropy_bpp:.5f}", f"{r.rans_bpp:.5f}", f"{r.huffman_bpp:.5f}",
                 f"{_waste(audit):.1%}", *figure)
        yield f"| {' | '.join(cells)} |"


def _name(audit: PointAudit) -> str:
    return f"{audit.point.task} {audit.point.split_point}/{audit.point.compress_factor}"


def _names(audits: Iterable[PointAudit]) -> str:
    return ", ".join(map(_name, audits))


def _waste(audit: PointAudit) -> float:
    """Bits of the Huffman code above the entropy, as a share of the entropy."""
    return audit.rates.huffman_bpp / audit.rates.entropy_bpp - 1


def _rates(audits: list[PointAudit]) -> Iterator[str]:
    worst = max(audits, key=_waste)
    over_rans = [a.rates.huffman_bpp / a.rates.rans_bpp for a in audits]
    overhead = [a.rates.overhead for a in audits]
    yield (f"The Huffman code of the published points costs {min(map(_waste, audits)):.1%} to {_waste(worst):.0%} more "
           f"than the entropy of their tables, {median(map(_waste, audits)):.1%} in the median; most at "
           f"{_name(worst)}: {worst.rates.huffman_bits:.2f} bits a symbol where {worst.rates.entropy_bits:.2f} "
           "would do.")
    yield (f"rANS needs {mean(overhead):.2f} bytes per image above the entropy on average over the {len(audits)} "
           f"tables ({max(overhead):.2f} at most); the Huffman code needs {min(over_rans):.3f} to {max(over_rans):.2f} "
           "times the bits of rANS.")
    saved = [1 - 1 / times for times in over_rans]
    yield (f"{SAVED} {mean(saved):.0%} of the Huffman code's bits in the mean over the published tables, "
           f"{median(saved):.0%} in the median, {max(saved):.0%} at most.")


def _symbols(audits: list[PointAudit]) -> Iterator[str]:
    with_gaps = [audit for audit in audits if audit.rates.gaps]
    yield (f"In all {len(audits)} tables every value is its step times an integer, exactly in float32, and no two are "
           f"the same symbol. {len(with_gaps)} of them lack symbols below their largest one; the published coder stops "
           "at such a symbol.")


def _duplicates(audits: list[PointAudit]) -> Iterator[str]:
    groups: dict[str, list[PointAudit]] = {}
    for audit in _with_weights(audits):
        groups.setdefault(audit.checkpoint.digest, []).append(audit)
    if groups:
        points = sum(map(len, groups.values()))
        yield f"{len(groups)} distinct bottlenecks stand behind {points} points whose weights are here."
    for group in groups.values():
        if len(group) > 1:
            settings = " and ".join(f"{key} ({', '.join(f'{value:g}' for value in values)})" for key, values in
                                    ((key, [getattr(a.point, key) for a in group]) for key in ("step", "stride"))
                                    if len(set(values)) > 1)
            yield f"Equal bit for bit, and different in {settings}: {_names(group)}."


def _with_weights(audits: list[PointAudit]) -> list[PointAudit]:
    return [audit for audit in audits if audit.checkpoint]


def _checkpoints(audits: list[PointAudit]) -> Iterator[str]:
    known = _with_weights(audits)
    on_gpu = sum("cuda" in audit.checkpoint.origin.device for audit in known)
    if on_gpu:
        yield (f"{on_gpu} of {len(known)} checkpoints were saved on a GPU, and load without one only if the loader "
               "moves them (map_location).")
    for task in dict.fromkeys(audit.point.task for audit in known):
        origins = [audit.checkpoint.origin for audit in known if audit.point.task == task]
        untrained = sorted(o.estimator_shrink for o in origins if o.estimator_shrink is not None)
        if untrained:
            sizes = [origin.estimator_parameters for origin in origins]
            factors = f"one factor between {untrained[0]:.3f} and {untrained[-1]:.3f}"
            decay = f", multiplied by {factors}" if untrained[0] < 1 else ""
            yield (f"In {len(untrained)} of {len(origins)} {task} checkpoints the rate estimator ({min(sizes):,} to "
                   f"{max(sizes):,} parameters) holds the constants of its initialisation in every channel{decay}: "
                   "it never received a gradient.")


def _branches(audits: list[PointAudit]) -> Iterator[str]:
    affected = [audit for audit in audits if (audit.point.task, audit.point.location) == ("segmentation", "S1")]
    if affected:
        coded = [c * h * w for c, h, w in (audit.rates.shape for audit in affected)]
        yield (f"{len(affected)} segmentation points of S1 and US1 code one of the five parallel branches of ASPP, "
               f"{min(coded):,} to {max(coded):,} symbols per image; the other four, {UNCODED_VALUES:,} values per "
               "image, are not coded. These points are no split of the network, and their bpp leaves most of what the "
               "back needs uncounted.")


def _overhead(audits: list[PointAudit]) -> Iterator[str]:
    rows = [f"{bottleneck:g} M of {network:g} M parameters ({task}) is printed as {printed:g}% and is {bottleneck / network:.1%}"
            for task, (bottleneck, network, printed) in _TABLE4.items()]
    yield (f"The paper's Table 4 gives the bottleneck's share of the network a hundred times too small: {'; '.join(rows)}.")
    for task, (_, network, _) in _TABLE4.items():
        sizes = [audit.checkpoint.parameters / 1e6 for audit in _with_weights(audits) if audit.point.task == task]
        if sizes:
            yield (f"The published {task} bottlenecks have {min(sizes):.3f} M to {max(sizes):.3f} M parameters, "
                   f"{min(sizes) / network:.2%} to {max(sizes) / network:.2%} of the network's {network:g} M.")


def _counted(audits: list[PointAudit]) -> Iterator[str]:
    for task in dict.fromkeys(audit.point.task for audit in audits):
        sets: dict[int, list[PointAudit]] = {}
        for audit in audits:
            if audit.point.task == task:
                sets.setdefault(round(audit.rates.images), []).append(audit)
        for images, group in sorted(sets.items(), key=lambda item: -len(item[1])):
            known = _IMAGENET.get(images) if task == "classification" else None
            what = f", the size of ImageNet's {known} set" if known else ""
            which = f"{len(group)} {task} tables" if len(group) > 6 else _names(group)
            yield f"Counted on {images:,} images{what}: {which}."


def _curves(audits: list[PointAudit]) -> Iterator[str]:
    paired = [audit for audit in audits if audit.marker]
    below = sum(audit.marker[0] < audit.rates.entropy_bpp for audit in paired)
    within = sum(abs(audit.difference) <= AGREES for audit in paired)
    yield (f"Figure and table can differ by a few percent, as the figures were measured on validation images: {within} "
           f"of {len(paired)} markers lie within {AGREES:.0%} of the Huffman bpp of their table, {below} lie below "
           "the table's entropy.")
    for (task, split_point), members in curves_of(audits).items():
        markers = len(published_curves()[task][split_point])
        numbers = f"{markers} markers for {len(members)} points"
        differences = [audit.difference for audit in members if audit.difference is not None]
        span = f"{min(differences):+.1%} to {max(differences):+.1%}"
        agrees = max(map(abs, differences)) <= AGREES
        verdict = "agrees with its tables" if agrees else "does not agree with its tables"
        close = sum(abs(difference) <= AGREES for difference in differences)
        yield (f"{task} {split_point}: the figure's curve {verdict} ({numbers}; figure over table {span}; "
               f"{close} of {len(differences)} pairs within {AGREES:.0%}).")


def _shared_markers(_: list[PointAudit]) -> Iterator[str]:
    """Curves of one figure that repeat each other's bpp marker by marker."""
    for task, curves in published_curves().items():
        own = [name for name in curves if name.lstrip("U") in ("S1", "S2", "S3")]
        for first, second in ((a, b) for i, a in enumerate(own) for b in own[i + 1:]):
            pairs = list(zip(curves[first], curves[second]))
            if len(curves[first]) == len(curves[second]) and all(abs(a[0] / b[0] - 1) < _SAME_BPP for a, b in pairs):
                same = sum(a[1] == b[1] for a, b in pairs)
                yield (f"{task} {first} and {second} have the same bpp at all {len(pairs)} markers of the published "
                       f"figures, and the same accuracy at {same} of them.")
