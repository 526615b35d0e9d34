"""ImageNet with torchvision's ResNet-50, official weights: the classification of the papers, with their bottlenecks."""

from spic.benchmarks.benchmark import Benchmark, Source, given
from spic.bottleneck import PUBLISHED_EARLY, PUBLISHED_LATE
from spic.datasets import imagenet, names
from spic.datasets.images import Preparation

ARCHIVE_URL = "https://github.com/IntelLabs/spic/archive/640c26c163519f50d4ab2dfa85729ea883fc485d.zip"
HOW_TO_GET = f"import the published artefacts with: spic import --source {ARCHIVE_URL}"
CUTS = {"S1": "layer4.2", "S2": "layer4.0", "S3": "layer3.4"}
GEOMETRY = {"S1": PUBLISHED_LATE, "S2": PUBLISHED_LATE, "S3": PUBLISHED_EARLY}


def _open(data, split, limit=None):
    return imagenet.open(given(data, "imagenet"), limit, split=split)


BENCHMARKS = (
    Benchmark("classification", "imagenet", "torchvision:resnet50/IMAGENET1K_V1", 1000, Preparation(),
              lambda data, limit: _open(data, "val", limit), names.imagenet, (), CUTS, GEOMETRY, official=True, how_to_get=HOW_TO_GET, source=Source(_open)),
)
