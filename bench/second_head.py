"""What a feature gives that a label does not: a second question, answered from the same bytes by a head in the cloud.

    python bench/second_head.py --benchmark imagenette --pictures caltech-101 --classes Faces Leopards Motorbikes

The edge sends S1 as it was trained, for the benchmark's own classes. The cloud gets pictures of other classes, folders the
network has never seen, and learns a linear head on the decoded feature, the mean of each channel, from half of the
pictures; beside it stands the best that can be said from the network's label alone: the commonest new class under each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from spic.benchmarks import find
from spic.commands import Parser, guarded, positive
from spic.costs import halves, ready
from spic.datasets.folder import Unlabelled
from spic.errors import SpicError
from spic.points import load_points, select
from spic.quantize import dequantize
from spic.report import aligned

RIDGE = 10.0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--benchmark", default="imagenette")
    add("--pictures", type=Path, required=True, help="folder with a sub-folder for each new class")
    add("--classes", nargs="+", required=True, help="names of the sub-folders, two at least")
    add("--split_point", default="S1")
    add("--compress_factor", nargs="+", default=["0", "2"])
    add("--each", type=positive, default=100, help="pictures of a class, half of them to learn from (default: %(default)s)")
    return parser.parse_args(argv)


def mean_feature(feature: torch.Tensor) -> np.ndarray:
    return feature.flatten(2).mean(2)[0].double().numpy()


@torch.inference_mode()
def passages(benchmark, network, point, pictures) -> tuple[list[np.ndarray], list[int], list[int]]:
    """Of each picture: the decoded feature's channel means, the label that the decoded feature gets, payload bytes."""
    example = benchmark.preparation.normalise(pictures[0][None])
    edge, cloud = halves(benchmark, network, point, example, "rans")
    found = [], [], []
    for pixels in tqdm(pictures, f"{point.split_point}/{point.compress_factor}", unit="img"):
        sent = edge.send(edge.front(benchmark.preparation.normalise(pixels[None])))
        symbols = cloud.decode(sent.frames)
        feature = cloud.decoder.place(cloud.decoder(dequantize(symbols, cloud.step)))
        for values, value in zip(found, (mean_feature(feature), int(cloud.back(feature).argmax()), sent.payload_bytes[0])):
            values.append(value)
    return found


def accuracy_of_head(features: np.ndarray, classes: np.ndarray, learn: np.ndarray) -> float:
    """Ridge regression onto one-hot classes, from standardised features; share of the other pictures that are right."""
    scaled = (features - features[learn].mean(0)) / (features[learn].std(0) + 1e-9)
    scaled = np.hstack([scaled, np.ones((len(scaled), 1))])
    known, wanted = scaled[learn], np.eye(classes.max() + 1)[classes[learn]]
    weights = np.linalg.solve(known.T @ known + RIDGE * np.eye(known.shape[1]), known.T @ wanted)
    return float(((scaled[~learn] @ weights).argmax(1) == classes[~learn]).mean())


def accuracy_of_label(labels: np.ndarray, classes: np.ndarray, learn: np.ndarray) -> float:
    """The commonest new class under each label of the network; of a label that was never seen, the commonest of all."""
    def commonest(chosen: np.ndarray) -> int:
        return int(np.bincount(classes[chosen & learn]).argmax())
    best = {label: commonest(labels == label) for label in set(labels[learn].tolist())}
    fallback = commonest(learn)
    return float(np.mean([best.get(label, fallback) == true for label, true in zip(labels[~learn].tolist(), classes[~learn])]))


def run(args: argparse.Namespace) -> None:
    if len(args.classes) < 2:
        raise SpicError("--classes: two at least, else there is nothing to tell apart")
    benchmark = find("classification", args.benchmark)
    sets = [Unlabelled(args.pictures / name, benchmark.preparation, args.each) for name in args.classes]
    pictures = [found.pixels(i) for found in sets for i in range(len(found))]
    classes = np.repeat(np.arange(len(sets)), [len(found) for found in sets])
    learn = np.concatenate([np.arange(len(found)) % 2 == 0 for found in sets])
    network = ready(benchmark, benchmark.image_size, torch.device("cpu"))
    rows = []
    for point in select(load_points(), "classification", args.benchmark, [args.split_point], args.compress_factor):
        features, labels, sizes = passages(benchmark, network, point, pictures)
        rows.append({"point": f"{point.split_point}/{point.compress_factor}", "bytes": f"{np.mean(sizes):.1f}",
                     "head on the feature (%)": f"{100 * accuracy_of_head(np.array(features), classes, learn):.1f}",
                     "from the label alone (%)": f"{100 * accuracy_of_label(np.array(labels), classes, learn):.1f}"})
    print(f"{int((~learn).sum())} pictures of {', '.join(args.classes)}, learned from {int(learn.sum())}")
    print(aligned(rows))


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
