"""CamVid, street scenes with eleven classes, with a DeepLabV3-ResNet-50 of half width trained by the project."""

from spic.benchmarks import coco
from spic.benchmarks.benchmark import Benchmark, Cropping, Recipe, Source, given
from spic.datasets import camvid, names


def _open(data, split, limit=None):
    return camvid.open(given(data, "camvid", "docs/results.md says how to get them"), limit, split)


BENCHMARKS = (
    Benchmark("segmentation", "camvid", "narrow:deeplabv3_resnet50/0.5", 11, camvid.PREPARATION,
              lambda data, limit: _open(data, "test", limit), lambda: names.CAMVID, names.CAMVID_PALETTE, coco.CUTS, coco.GEOMETRY, source=Source(_open, evaluation="test", window=33, counted=120),
              recipe=Recipe(((30, 193), (20, 257)), Cropping((0.15, 0.7)), batch=12, lr=0.03, smoothing=0.0,
                            start=("classification", "imagenette"))),
)
