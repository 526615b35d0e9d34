"""What an exported edge gives, beside the edge of torch: on pictures, through the very payloads, answered by one cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from spic.benchmarks import Benchmark
from spic.coding.stream import FrameWriter
from spic.datasets.pictures import read_rgb
from spic.edge.runtime import OnnxHalf
from spic.errors import SpicError
from spic.evaluate import Road, Stretch
from spic.tasks import TASKS, Metric

LEAST_EQUAL = 0.9999
"""Share of symbols that must be torch's own; floating-point sums in another order put a few on the other side of a half."""


@dataclass
class Comparison:
    """Of one point, over the pictures so far. alone, exported: scores of torch's edge and of the exported one.

    values, equal, near: symbols; those that are torch's; those within one step of torch's. same_answers: pictures (or
    pixels) answered alike, of ``answers``.
    """

    road: Road
    alone: Metric
    exported: Metric
    pictures: int = 0
    values: int = 0
    equal: int = 0
    near: int = 0
    payload_bytes: int = 0
    answers: int = 0
    same_answers: int = 0

    def add(self, feature: Tensor, symbols: np.ndarray, target: Tensor | None, reference: Tensor) -> None:
        """One picture: torch's feature at the split point, the exported symbols, the label, the whole network's answer."""
        ours = self.road.edge.encode(feature)[0]
        difference = np.abs(symbols - ours.numpy())
        self.pictures += 1
        self.values += difference.size
        self.equal += int((difference == 0).sum())
        self.near += int((difference <= 1).sum())
        logits, exported = self.road.cloud.answer(ours), self._through_bytes(symbols)
        self.answers += logits.argmax(1).numel()
        self.same_answers += int((logits.argmax(1) == exported.argmax(1)).sum())
        self.alone.update(logits, target, reference)
        self.exported.update(exported, target, reference)

    def _through_bytes(self, symbols: np.ndarray) -> Tensor:
        """What the cloud answers to the payload of the exported symbols; payloads it cannot decode are a StreamError."""
        (payload,) = self.road.edge.coder.encode(symbols)
        self.payload_bytes += len(payload)
        writer = FrameWriter(self.road.edge.expected)
        self.road.cloud.open(writer.header)
        received = self.road.cloud.receive([writer.frame(payload)])
        self.road.cloud.close(writer.end())
        if not (received.symbols.numpy() == symbols).all():
            raise SpicError(f"{self.road.point.name}: the cloud decodes other symbols than the exported edge coded; please "
                            "report this as a bug")
        return received.logits

    def result(self) -> dict:
        """For the manifest; scores in their own units, shares 0 to 1, bytes for a picture."""
        scores, alone = self.exported.result(), self.alone.result()
        return {"pictures": self.pictures, "symbols_equal": self.equal / self.values,
                "within_one_step": self.near / self.values,
                "payload_bytes": self.payload_bytes / self.pictures, "same_answers": self.same_answers / self.answers,
                "agreement": scores["agreement"], "scores": scores, "scores_of_torch": alone}

    def require_equal(self) -> None:
        """Refuse an export whose symbols are not torch's."""
        if self.equal < LEAST_EQUAL * self.values or self.near < self.values:
            raise SpicError(f"{self.road.point.name}: only {100 * self.equal / self.values:.3f} % of the exported symbols "
                            f"are those of torch ({100 * LEAST_EQUAL:.2f} % asked, the rest within one step), so nothing was "
                            "written")


@torch.inference_mode()
def compare(benchmark: Benchmark, stretches: list[Stretch], half: OnnxHalf, dataset: Dataset) -> list[Comparison]:
    """For each point of ``half``, in its order, over all pictures of the data set."""
    metric = TASKS[benchmark.task].metric
    roads = {road.point.name: (stage, road) for stage, stretch in enumerate(stretches) for road in stretch.roads}
    found = [Comparison(roads[point.name][1], *(metric(benchmark.num_classes) for _ in range(2))) for point in half.points]
    for number in tqdm(range(len(dataset)), "checking", unit="img", disable=None):
        image = half.preparation.array(read_rgb(dataset.paths[number]))
        target = torch.as_tensor(dataset.label(number))[None] if dataset.labelled else None
        features = _features(stretches, torch.from_numpy(image)[None])
        reference = stretches[-1].back(features[-1]).float()
        for place, (point, comparison) in enumerate(zip(half.points, found)):
            comparison.add(features[roads[point.name][0]], half.symbols(place, image), target, reference)
    return found


def _features(stretches: list[Stretch], image: Tensor) -> list[Tensor]:
    """What torch has at each split point."""
    features, value = [], image.contiguous(memory_format=torch.channels_last)
    for stretch in stretches:
        value = stretch.front(value)
        features.append(value)
    return features
