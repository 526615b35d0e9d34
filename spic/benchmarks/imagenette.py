"""Imagenette, ten classes of ImageNet at 160 pixels, with a ResNet-50 of half width trained by the project."""

from spic.benchmarks import imagenet
from spic.benchmarks.benchmark import Benchmark, Cropping, Recipe, Source
from spic.datasets import names
from spic.datasets.images import Preparation
from spic.datasets.imagenet import IMAGENETTE_CLASSES, IMAGENETTE_SIZE, open_imagenette
from spic.errors import SpicError


def _open(data, split, limit=None):
    if data is None:
        raise SpicError("imagenette: say where the pictures are with --valdir or --data DIR (docs/results.md says how to get "
                        "them)")
    return open_imagenette(data, limit, split)


BENCHMARKS = (
    Benchmark("classification", "imagenette", "narrow:resnet50/0.5", 10,
              Preparation(IMAGENETTE_SIZE, IMAGENETTE_SIZE), lambda data, limit: _open(data, "val", limit),
              lambda: names.readable(IMAGENETTE_CLASSES), (), imagenet.CUTS, imagenet.GEOMETRY, source=Source(_open, stored=IMAGENETTE_SIZE),
              recipe=Recipe(((15, 96), (22, 128), (3, 144)), Cropping((0.3, 1.0)))),
)
