"""COCO with torchvision's DeepLabV3-ResNet-50, official weights: the segmentation of the papers, with their bottlenecks."""

from spic.benchmarks.benchmark import Benchmark, Source, Whole, given
from spic.benchmarks.imagenet import HOW_TO_GET
from spic.bottleneck import PUBLISHED_PIXELS
from spic.datasets import coco, names

GEOMETRY = dict.fromkeys(("S1", "S2", "S3"), PUBLISHED_PIXELS)
CUTS = {"S1": "classifier.0", "S2": "backbone.layer4.1", "S3": "backbone.layer3"}
_BRANCHES = tuple(f"classifier.0.convs.{branch}" for branch in ("0", "1", "2", "3", "4.3"))
_CODED = 1


class OneBranch(Whole):
    """The published S1 is no split: its bottleneck sits in one of the five parallel branches of ASPP.

    The other four reach the cloud uncoded: three of 256x65x65, and one pooled to a single cell, before its resizing.
    """

    @staticmethod
    def parts(feature):
        return feature[_CODED], (*feature[:_CODED], *feature[_CODED + 1:])

    @staticmethod
    def join(decoded, uncoded):
        return (*uncoded[:_CODED], decoded, *uncoded[_CODED:])


def _open(data, split, limit=None):
    return coco.open(given(data, "coco"), limit, split=split)


BENCHMARKS = (
    Benchmark("segmentation", "coco", "torchvision:deeplabv3_resnet50/COCO_WITH_VOC_LABELS_V1", 21, coco.PREPARATION,
              lambda data, limit: _open(data, "val", limit), lambda: names.VOC, names.voc_palette(), {**CUTS, "S1": _BRANCHES}, GEOMETRY, {"S1": OneBranch}, official=True, how_to_get=HOW_TO_GET,
              source=Source(_open, crops=(257, 2), counted=120)),
)
