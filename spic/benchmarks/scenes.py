"""The embedded benchmark: pictures drawn by the project, and narrow networks trained on them. Needs no data at hand."""

from functools import partial

from spic.benchmarks import coco, imagenet
from spic.benchmarks.benchmark import Benchmark, Cropping, Recipe, Source
from spic.datasets import names, scenes
from spic.datasets.coco import PREPARATION as COCO
from spic.datasets.images import Preparation
from spic.errors import SpicError


def _sets(backbone: int, bottlenecks: int) -> dict[str, dict]:
    """Split -> which set is drawn. Bottlenecks learn on pictures that the network has not seen."""
    return {"train": {"split": "train", "count": backbone}, "val": {"split": "val"},
            "bottlenecks": {"split": "train", "count": bottlenecks, "seed": 1},
            "few": {"split": "train", "count": 256, "seed": 1}}


def _draw(task: str, sets: dict[str, dict], data, split: str, limit: int | None = None):
    if data is not None:
        raise SpicError(f"{data}: the scenes are drawn by the project; leave --valdir and --data out, or name a --benchmark")
    return scenes.open(task, limit=limit, **sets[split])


def _drawn(task: str, backbone: int, bottlenecks: int):
    return partial(_draw, task, _sets(backbone, bottlenecks))


_PICTURES = _drawn("classification", 24_000, 12_000)
_MASKS = _drawn("segmentation", 3_000, 1_200)
BENCHMARKS = (
    Benchmark("classification", "scenes", "narrow:resnet50/0.25", 100, Preparation(),
              lambda data, limit: _PICTURES(data, "val", limit), lambda: names.readable(scenes.CLASSES), (), imagenet.CUTS, imagenet.GEOMETRY,
              source=Source(_PICTURES, bottlenecks="bottlenecks", exported="few", stored=192),
              recipe=Recipe(((8, 96), (7, 128), (4, 192)), Cropping((0.5, 1.0), of_square=True))),
    Benchmark("segmentation", "scenes", "narrow:deeplabv3_resnet50/0.25", 21, COCO,
              lambda data, limit: _MASKS(data, "val", limit), lambda: ("background", *names.readable(scenes.SHAPE_NAMES)),
              names.voc_palette(), coco.CUTS, coco.GEOMETRY,
              source=Source(_MASKS, bottlenecks="bottlenecks", exported="few", window=33, counted=120),
              recipe=Recipe(((14, 257),), Cropping((0.12, 0.3), 1.2), batch=24, lr=0.05, cycles=2, smoothing=0.0,
                            start=("classification", "scenes"))),
)
