"""A root for bench/unchanged.py: the published files at hand, and stand-ins for the rest.

    python bench/standins.py --published DIR --root DIR --data DIR

``--published`` holds published files (``Classification/weights/...``), as many as there are; they are imported. A point
whose weights are not among them gets a bottleneck drawn at random by its name, and both networks get random weights; what
BatchNorm observes is set on a few pictures of ``--data`` (imagenette-160, coco-mini), so that symbols are neither all
zero nor all different. Nothing in it is good for anything but telling whether two versions compute the same.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from spic.benchmarks import Benchmark, find
from spic.bottleneck import Bottleneck
from spic.commands import Parser, guarded
from spic.files import record_checksums, write_whole
from spic.networks import zoo
from spic.networks.cut import cut
from spic.parts import empty_bottleneck
from spic.points import DICT_FILE, OperatingPoint
from spic.published.importing import import_published
from spic.published.layout import published_points

PICTURES = {"imagenet": ("imagenette-160", 16), "coco": ("coco-mini", 2)}
SYMBOLS = 1.5  # spread of a stand-in's symbols, in steps


def observe(module: nn.Module, *inputs):
    """What the module gives while its BatchNorm observes exactly these inputs."""
    for norm in (part for part in module.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.momentum = 1.0
        norm.train()
    return module(*inputs)


def draw_network(benchmark: Benchmark, images: torch.Tensor) -> nn.Module:
    """The benchmark's network with random weights, settled on ``images``."""
    torch.manual_seed(0)
    network = zoo.find(benchmark.network).build(benchmark.num_classes, "random").eval()
    observe(network, images)
    return network.eval().requires_grad_(False)


def draw_bottleneck(point: OperatingPoint, benchmark: Benchmark, feature: torch.Tensor) -> Bottleneck:
    """A bottleneck of the point's shape whose symbols are neither all zero nor all different."""
    torch.manual_seed(zlib.crc32(point.name.encode()))
    bottleneck = empty_bottleneck(point, benchmark, tuple(feature.shape[1:]), benchmark.image_size)
    nn.init.constant_(bottleneck.encoder.norm2.weight, SYMBOLS * point.step)
    observe(bottleneck, feature)
    return bottleneck.eval()


def fill(benchmark: Benchmark, points: list[OperatingPoint], root: Path, data: Path) -> int:
    """Network and missing bottlenecks of one published benchmark; how many bottlenecks were drawn."""
    folder, count = PICTURES[benchmark.name]
    pictures = benchmark.open_data(data / folder, count)
    images = torch.stack([pictures[i][0] for i in range(count)])
    network = draw_network(benchmark, images)
    write_whole(root / "backbones" / f"{benchmark.name}.safetensors", save(network.state_dict()))
    missing = [point for point in points if point.benchmark == benchmark.name and not point.weights.exists()]
    features = {}
    for point in missing:
        where = benchmark.cut_after(point)
        if where not in features:
            features[where] = cut(network, where, images[:1])[0](images)
        coded, _ = benchmark.adapter(point).parts(features[where])
        write_whole(point.weights, save(draw_bottleneck(point, benchmark, coded).state_dict()))
    record_checksums(benchmark.name, [point.weights for point in missing], root)
    return len(missing)


@torch.no_grad()
def run(args: argparse.Namespace) -> None:
    root = args.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(DICT_FILE, root / "dict.yaml")
    print(import_published(str(args.published), root / "dict.yaml"))
    points = published_points(root / "dict.yaml")
    for task, name in (("classification", "imagenet"), ("segmentation", "coco")):
        drawn = fill(find(task, name), points, root, args.data)
        print(f"{name}: random weights for the network and {drawn} bottlenecks")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("published", "root", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
