"""Does memory stay flat? The loop of val.py over very many small pictures of noise, and the memory after each tenth.

    python bench/memory.py --images 50000
"""

from __future__ import annotations

import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import Dataset

from spic.benchmarks import find
from spic.bottleneck import make_bottleneck
from spic.commands import Parser, positive
from spic.coding import FrequencyTable
from spic.evaluate import Settings, evaluate, lay_roads
from spic.tasks.classification import TopK
from spic.networks.narrow import resnet50
from spic.points import load_points
from spic.training.tables import write_point

SIZE = (32, 32)
NETWORK = "narrow:resnet50/0.125"


class Noise(Dataset):
    """Pictures of noise; notes the peak memory of the process whenever another tenth is through."""

    def __init__(self, images: int):
        self.paths = range(images)
        self.peaks_mb: list[float] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        if index % max(1, len(self) // 10) == 0:
            self.peaks_mb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return torch.randn(3, *SIZE), index % 10


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=positive, default=50_000)
    images = Noise(parser.parse_args().images)
    network = resnet50(0.125, 10).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        table = FrequencyTable({0: 90, 1: 30, 2: 9, 3: 1}, 0.5)
        write_point(make_bottleneck((128, 2, 2), 6, 2).eval(), table, ("classification", "noise", "S3", 0), Path(folder),
                    {"network": NETWORK, "cut": "layer3.4"})
        points = list(load_points(Path(folder, "dict.yaml")).values())
        settings = Settings("rans", batch_size=100, workers=0)
        benchmark = replace(find("classification", "scenes").of_network(NETWORK), num_classes=10)
        stretches = lay_roads(benchmark, network, points, SIZE, settings)
        evaluate(stretches, images, TopK(10), settings)
    print("peak memory in MB after each tenth:", " ".join(f"{peak:.0f}" for peak in images.peaks_mb))


if __name__ == "__main__":
    main()
