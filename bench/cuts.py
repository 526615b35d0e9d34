"""Every place where one tensor crosses, in every network of torchvision (and timm, if asked): is back(front(x)) the network?

    python bench/cuts.py
    python bench/cuts.py --only torchvision:resnet18 timm:efficientnet_lite0 --output cuts.json

Random weights, two pictures, bit for bit; also: no half writes into what it is given, each parameter in exactly one half.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from machine import describe
from torchvision import models
from tqdm import tqdm

from spic.commands import Parser, guarded
from spic.errors import SpicError
from spic.files import check_writable, write_json
from spic.networks import zoo
from spic.networks.cut import cut_many, single_tensor_cuts
from spic.networks.graph import ANSWER, trace

_SMALL = (64, 96, 129, 224, 256)  # the smallest side that a network takes is used: bits do not depend on it


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("bench/cuts.py", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="these; default: all of torchvision's")
    parser.add_argument("--output", type=Path, help="JSON with a row for each network")
    return parser.parse_args(argv)


def every_name() -> list[str]:
    """torchvision's classification and segmentation networks."""
    return [f"torchvision:{name}" for module in (models, models.segmentation) for name in models.list_models(module)]


@torch.inference_mode()
def check(name: str) -> dict:
    """One network: how many places, and the names of those that fail."""
    start = time.perf_counter()
    spec = zoo.find(name)
    network = spec.build(weights="random").requires_grad_(False)
    traced, image = _traced(network, spec.preparation.crop)
    places = [place.name for place in single_tensor_cuts(traced, image)]
    failed = _failed(network, traced, places, image)
    return {"network": name, "size": image.shape[-1], "places": len(places), "failed": failed, "refused": None,
            "seconds": time.perf_counter() - start}


def _traced(network, most: int):
    """The network's graph and two pictures, as small as it takes them."""
    for side in [side for side in _SMALL if side < most] + [most]:
        image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        try:
            network(image)
        except Exception:
            if side == most:
                raise
            continue
        return trace(network, image), image


def _failed(network, traced, places: list[str], image) -> list[str]:
    expected = network(image)
    expected = expected[ANSWER] if isinstance(expected, dict) else expected
    feature, failed, front = image, [], set()
    everything = {id(parameter) for parameter in traced.parameters()}
    for stage, back, frontier in zip(*cut_many(traced, places, image)):
        feature = stage(feature)
        kept = feature.clone()
        same = torch.equal(back(feature), expected) and torch.equal(feature, kept)
        front |= {id(parameter) for parameter in stage.parameters()}
        rest = {id(parameter) for parameter in back.parameters()}
        failed += [] if same and front | rest == everything and not front & rest else [frontier.after]
    return failed


def _row(name: str) -> dict:
    try:
        return check(name)
    except SpicError as error:
        return {"network": name, "size": None, "places": 0, "failed": [], "refused": str(error), "seconds": 0.0}


def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    rows = []
    for name in tqdm(args.only or every_name(), "networks", disable=None):
        row = _row(name)
        rows.append(row)
        if args.output:
            write_json(args.output, {"machine": describe(), "networks": rows})
        said = row["refused"] or f"{row['size']:4d} px {row['places']:4d} places {len(row['failed']):3d} failed"
        tqdm.write(f"{name:45s} {said} {' '.join(row['failed'][:3])}", file=sys.stdout)
    served = [row for row in rows if not row["refused"]]
    print(f"{len(served)} of {len(rows)} networks traced; {sum(row['places'] for row in rows)} places, "
          f"{sum(len(row['failed']) for row in rows)} failed")


if __name__ == "__main__":
    arguments = parse()
    sys.exit(guarded(lambda: _run(arguments)))
