"""The benchmarks: which network, which weights, which data, one code path for all.

To add a benchmark of your own: one entry in BENCHMARKS and its operating points in dict.yaml.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.error import URLError

from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

from spic import points
from spic.datasets import camvid, coco, imagenet, scenes
from spic.errors import SpicError, reason
from spic.files import verify_file
from spic.networks import NETWORKS
from spic.networks.weights import load_strictly, read_state_dict
from spic.networks.split import PUBLISHED_BRANCH


@dataclass(frozen=True)
class Benchmark:
    """A task on a data set with a network.

    ``open_data(valdir, limit)`` gives the validation set; ``official`` are torchvision's weights (None: shipped ones,
    in Weights/<name>/<task>.safetensors); ``splits`` overrides where a split point cuts the network.
    """

    task: str
    name: str
    num_classes: int
    width: float
    open_data: Callable
    official: object = None
    splits: dict[str, str] = field(default_factory=dict)

    @property
    def backbone_file(self) -> Path:
        return points.ROOT / "Weights" / self.name / f"{self.task}.safetensors"

    def cut_after(self, point: points.OperatingPoint) -> str:
        """The split point, or the module path, that the point's bottleneck sits behind."""
        return self.splits.get(point.location, point.location)

    def build_network(self, weights: Path | None = None) -> nn.Module:
        """The uncompressed network in evaluation mode, with ``weights`` (a file), the official or the shipped ones."""
        network = NETWORKS[self.task](self.width, self.num_classes)
        load_strictly(network, self._state_dict(weights), weights or self.backbone_file)
        return network.eval().requires_grad_(False)

    def _state_dict(self, weights: Path | None) -> dict:
        if weights:
            return read_state_dict(weights)
        if self.official:
            return _download(self.official)
        advice = "restore it from the repository, or train it again (README, Training)"
        return read_state_dict(verify_file(self.backbone_file, self.name, advice, points.ROOT))


def _download(official) -> dict:
    try:
        return official.get_state_dict(progress=True, check_hash=True)
    except (OSError, URLError, RuntimeError) as error:
        raise SpicError(f"torchvision's weights {official} could not be downloaded ({reason(error)}); "
                        f"get {official.url} by other means and pass it with --backbone_weights FILE") from None


def _open_scenes(task: str, valdir: Path | None, limit: int | None):
    if valdir:
        raise SpicError(f"--valdir {valdir}: the scenes are drawn by the project; leave --valdir out or name a --benchmark")
    return scenes.open(task, "val", limit)


_ENTRIES = (
    Benchmark("classification", "imagenet", 1000, 1.0, imagenet.open, ResNet50_Weights.IMAGENET1K_V1),
    Benchmark("segmentation", "coco", 21, 1.0, coco.open, DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
              {"S1": PUBLISHED_BRANCH}),
    Benchmark("classification", "scenes", 100, 0.25, partial(_open_scenes, "classification")),
    Benchmark("segmentation", "scenes", 21, 0.25, partial(_open_scenes, "segmentation")),
    Benchmark("classification", "imagenette", 10, 0.5, imagenet.open_imagenette),
    Benchmark("segmentation", "camvid", 11, 0.5, camvid.open),
)
BENCHMARKS = {(entry.task, entry.name): entry for entry in _ENTRIES}
PUBLISHED = {"classification": "imagenet", "segmentation": "coco"}
EMBEDDED = "scenes"


def find(task: str, name: str) -> Benchmark:
    """The benchmark of that name for the task, or an error that lists the valid ones."""
    if (task, name) not in BENCHMARKS:
        valid = ", ".join(benchmark for t, benchmark in BENCHMARKS if t == task)
        raise SpicError(f"unknown benchmark {name!r}; for {task} there are: {valid}")
    return BENCHMARKS[task, name]
