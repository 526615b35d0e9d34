"""Imagenette, ten classes of ImageNet at 160 pixels, with a ResNet-50 of half width trained by the project."""

from spic.benchmarks import imagenet
from spic.benchmarks.benchmark import Benchmark, Cropping, Recipe, Source, given
from spic.datasets import names
from spic.datasets.imagenet import IMAGENETTE_CLASSES, IMAGENETTE_PREPARATION, IMAGENETTE_SIZE, open_imagenette


def _open(data, split, limit=None):
    return open_imagenette(given(data, "imagenette", "docs/results.md says how to get them"), limit, split)


BENCHMARKS = (
    Benchmark("classification", "imagenette", "narrow:resnet50/0.5", 10,
              IMAGENETTE_PREPARATION, lambda data, limit: _open(data, "val", limit),
              lambda: names.readable(IMAGENETTE_CLASSES), (), imagenet.CUTS, imagenet.GEOMETRY, source=Source(_open, stored=IMAGENETTE_SIZE),
              recipe=Recipe(((15, 96), (22, 128), (3, 144)), Cropping((0.3, 1.0)))),
)
