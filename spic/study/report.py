"""Writes findings into a Markdown page, each between its own marks; what was not measured is left as it stands.

    <!-- study: deeper scenes-classification -->
    **holds**: ...
    <!-- end -->
    <!-- study: estimators imagenette-classification S1 -->
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from spic.curves.command import write_figure
from spic.curves.comparison import Comparison
from spic.errors import SpicError
from spic.files import check_writable, write_whole
from spic.published import audit, audit_report
from spic.study import claims, cost_claims, papers, trainings
from spic.study.claims import ABSENT, Finding, combined
from spic.study.measured import PUBLISHED_VARIANT, Measured, sets
from spic.training.rate import ESTIMATORS

TITLES = {"headline": "1. every split beats every rival", "deeper": "deeper split, fewer bits (read off their figures)",
          "estimators": "2. neural estimator beats l1", "prediction": "its predicted bits within 5 % (our limit)",
          "peak": "3. and has the higher peak", "above": "4. segmentation ends above the uncompressed network",
          "unlabelled": "5. without labels, still better than all rivals",
          "unsupervised": "and at most one point worse (our limit)", "matching": "6. a deeper layer is the better match",
          "topologies": "7. one depthwise-separable layer is the best of four", "cost": "8. the bottleneck's overhead is negligible",
          "switching": "9. one network, bottlenecks exchanged", "tables": "beyond: same predictions, fewer bits",
          "recipe": "beyond: half the bits of the published recipe"}
CLAIMS = {"headline": papers.headline, "deeper": claims.deeper, "estimators": claims.estimators, "prediction": claims.prediction,
          "peak": papers.peak, "above": papers.above, "unlabelled": papers.unlabelled, "unsupervised": claims.unsupervised,
          "matching": papers.matching, "topologies": papers.topologies, "cost": cost_claims.cost,
          "switching": cost_claims.switching, "tables": claims.tables, "recipe": claims.recipe}
BY_SPLIT = ("estimators", "prediction", "peak", "matching", "topologies", "recipe")
"""Claims about trainings of one split point: each has a block of its own, so that another one is added without them."""
BLOCK = re.compile(r"<!-- study: (?P<name>[^\n]+?) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)


def report(runs: Path, output: Path, figures: Path, catalogue: Path) -> None:
    """Print every finding, draw the figures into a folder, and put both into their places in the page ``output``.

    catalogue: the dict.yaml that lists the imported published points, for the audit.
    """
    check_writable(output)
    page = output.read_text() if output.exists() else ""
    if not BLOCK.search(page):
        raise SpicError(f"{output}: has no place for findings (<!-- study: ... -->); choose docs/reproduction.md")
    if not (measured_sets := sets(runs, figures)):
        raise SpicError(f"{runs}: nothing was measured there; run spic study measure first, or name another --runs")
    texts = {}
    for measured in measured_sets:
        if measured.trainings:
            trainings.keep(measured.kept, measured.trainings)
        drawn = draw(measured, figures)
        for name, finding in findings(measured):
            text = rendered(finding, _links(drawn.get(name), output))
            print(f"## {name}\n{text}")
            if finding.verdict != ABSENT:
                texts[name] = text
    texts |= _audit(catalogue)
    page = spliced(with_places(page, texts), texts)
    page = spliced(page, {"summary": table(summary(page)) + "\n"})
    write_whole(output, page.encode())
    for name in texts.keys() - {match["name"] for match in BLOCK.finditer(page)}:
        print(f"note: {output} has no place for: {name}")


def findings(measured: Measured) -> Iterator[tuple[str, Finding]]:
    """Name of a block -> what stands in it."""
    apart = {split_point: measured.at(split_point) for split_point in measured.curves}
    for name, claim in CLAIMS.items():
        places = {f" {split_point}": part for split_point, part in apart.items()} if name in BY_SPLIT else {"": measured}
        for place, part in places.items():
            yield f"{name} {measured.name}{place}", claim(part)


def rendered(finding: Finding, links: Iterable[str] = ()) -> str:
    """A block's Markdown: the verdict on its first line, then figures and tables."""
    head = f"**{finding.verdict}**" + (f": {finding.sentence}" if finding.sentence else "")
    return "\n\n".join([head, *links, *map(table, finding.tables)]) + "\n"


def table(rows: list[dict]) -> str:
    """Rows -> a Markdown table; columns in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(key, "")) for key in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_places(page: str, names: Iterable[str]) -> str:
    """The page with a block for each split point that has none yet: among those of its claim and benchmark by name, or in place of the
    one that names no split point and waits."""
    for name in sorted(names):
        blocks = list(BLOCK.finditer(page))
        alike = [match for match in blocks if match["name"].split()[:2] == name.split()[:2]]
        if not alike or name in {match["name"] for match in alike}:
            continue
        before, behind = page[:alike[-1].end()] + "\n\n", page[alike[-1].end():]
        if later := next((match for match in alike if match["name"] > name), None):
            before, behind = page[:later.start()], "\n\n" + page[later.start():]
        elif len(alike[-1]["name"].split()) == 2 and _verdict(alike[-1]["text"]) == ABSENT:
            before = page[:alike[-1].start()]
        page = f"{before}<!-- study: {name} -->\n<!-- end -->{behind}"
    return page


def spliced(page: str, texts: dict[str, str]) -> str:
    """The page with the text of every block that is named in ``texts``."""
    def block(match: re.Match) -> str:
        text = texts.get(match["name"], match["text"])
        return f"<!-- study: {match['name']} -->\n{text}<!-- end -->"
    return BLOCK.sub(block, page)


def summary(page: str) -> list[dict]:
    """Claims by benchmarks: the verdict at the head of each block; of several split points those that were measured, together."""
    found: dict[str, dict[str, list[str]]] = {name: defaultdict(list) for name in TITLES}
    for match in BLOCK.finditer(page):
        name, _, where = match["name"].partition(" ")
        if name in found:
            found[name][where.partition(" ")[0]].append(_verdict(match["text"]))
    return [{"claim": TITLES[name], **{where: combined(set(verdicts) - {ABSENT} or {ABSENT}) for where, verdicts in places.items()}}
            for name, places in found.items() if places]


def _verdict(text: str) -> str:
    """At the head of a block."""
    found = re.match(r"\*\*(.+?)\*\*", text)
    return found[1] if found else ABSENT


def _audit(catalogue: Path) -> dict[str, str]:
    """The audit's sentences, if the published artefacts are imported here; its table stays in docs/audit.md."""
    try:
        text = audit_report.render(audit.audit_imported(catalogue))
    except SpicError as error:
        print(f"note: the audit is left as it stands ({error})")
        return {}
    sentences = [line for line in text.splitlines() if line.startswith("- ")]
    saved = [line for line in sentences if line.startswith(f"- {audit_report.SAVED}")]
    return {"audit": "".join(f"{line}\n" for line in sentences), "published-tables": "".join(f"{line}\n" for line in saved)}


def draw(measured: Measured, folder: Path) -> dict[str, Path]:
    """Figures of the trained curves, error bars over seeds; name of a block -> the file drawn."""
    def place(what: str) -> Path:
        return folder / f"study-{measured.name}-{what}"

    drawn = {}
    for split_point, names in measured.curves.items():
        for what, title, those in (("estimators", "Rate estimators", ESTIMATORS), ("topologies", "Topologies", papers.TRAININGS.values()),
                                   ("matching", "Matched layers", map(papers.matched, papers.LAYERS))):
            if len(shown := [name for name in those if name in names]) > 1:
                comparison = _some(measured, split_point, shown)
                drawn[f"{what} {measured.name} {split_point}"] = _write(comparison, f"{title} at {split_point}", place(f"{what}-{split_point}"))
        if {claims.OURS, claims.PAPERS} <= set(names) and (both := _recipes(measured, split_point)):
            drawn[f"recipe {measured.name} {split_point}"] = _write(both, f"Recipes at {split_point}", place(f"recipe-{split_point}"))
    free = [name for name in measured.estimators if name.startswith("U") and name.removeprefix("U") in measured.estimators]
    if free and (comparison := _one_estimator(measured, free)):
        drawn[f"unsupervised {measured.name}"] = _write(comparison, "With and without labels", place("unsupervised"))
    return drawn


def _write(comparison: Comparison, title: str, output: Path) -> Path:
    where = f"{comparison.benchmark}, {comparison.images} images"
    write_figure(dataclasses.replace(comparison, title=f"{title} ({where})"), output)
    return output.with_name(f"{output.name}.png")


def _some(measured: Measured, split_point: str, names: list[str]) -> Comparison:
    """The curves of one split point that are named."""
    comparison = measured.trained(names=f"{split_point} *")
    wanted = {f"{split_point} {name}" for name in names}
    return dataclasses.replace(comparison, curves=tuple(curve for curve in comparison.curves if curve.name in wanted))


def _one_estimator(measured: Measured, free: list[str]) -> Comparison | None:
    """The unsupervised curves and their supervised twins, by their split points' names."""
    comparison = measured.trained(names=f"* {claims.OURS}")
    if comparison is None:
        return None
    wanted = {name for split_point in free for name in (split_point, split_point.removeprefix("U"))}
    named = [dataclasses.replace(curve, name=curve.name.split()[0]) for curve in comparison.curves]
    return dataclasses.replace(comparison, curves=tuple(curve for curve in named if curve.name in wanted))


def _recipes(measured: Measured, split_point: str) -> Comparison | None:
    """Published recipes under Huffman beside ours under rANS with the finest tables measured."""
    published = measured.trained(PUBLISHED_VARIANT, f"{split_point} *")
    ours = claims.our_recipe(measured, split_point)
    if published is None or ours is None:
        return None
    kept = [c for c in published.curves if c.name.split()[1] in (claims.PAPERS, claims.HEURISTIC)]
    name, best = ours
    drawn = ((PUBLISHED_VARIANT, kept), (best, measured.trained(best, f"{split_point} {name}").curves))
    named = [dataclasses.replace(curve, name=f"{curve.name}, {variant.replace('-', ' ')}") for variant, curves in drawn for curve in curves]
    return dataclasses.replace(published, curves=tuple(named))


def _links(file: Path | None, page: Path) -> list[str]:
    """The image, if there is one, as seen from the page."""
    return [f"![{file.stem}]({os.path.relpath(file, page.parent)})"] if file else []
