"""Segmentation: a class for each pixel. logits [B, classes, H, W], targets int64 [B, H, W]."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from spic.errors import SpicError
from spic.tasks.task import Answer, Metric, Score, Task

MASK_STRIDE = 2  # in training, masks are compared at every second pixel: half the resolution, a quarter of the work


class MeanIoU(Metric):
    """Mean over classes of intersection over union, 0 to 1; classes that never occur do not count.

    counts: int64 confusion matrix [label, prediction]; pixels whose label is no class are not scored.
    """

    def __init__(self, num_classes: int):
        super().__init__(num_classes, torch.zeros(num_classes, num_classes, dtype=torch.int64))

    def _count(self, logits: Tensor, targets: Tensor) -> list[dict]:
        matrices = self._confusion(_classes(logits, 1).cpu(), targets.cpu())
        self.counts += matrices.sum(0)
        return [{"miou": mean_iou(matrix), **_summands(matrix)} for matrix in matrices]

    def _confusion(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """One matrix per image, [B, classes, classes]: a single count, in which each image has cells of its own."""
        cells = self.num_classes**2
        scored = (labels >= 0) & (labels < self.num_classes)
        index = torch.where(scored, self.num_classes * labels.long() + predictions, cells).flatten(1)
        index = index + torch.arange(len(index))[:, None] * (cells + 1)  # the last cell of an image takes the rest
        counts = torch.bincount(index.flatten(), minlength=len(index) * (cells + 1)).view(len(index), cells + 1)
        return counts[:, :cells].view(-1, self.num_classes, self.num_classes)

    def _result(self) -> dict[str, float]:
        return {"miou": mean_iou(self.counts)}


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes that occur in labels or predictions of the diagonal over the union."""
    hits = confusion.diag().double()
    return (hits / (confusion.sum(0) + confusion.sum(1) - hits)).nanmean().item()


def _summands(confusion: Tensor) -> dict[str, str]:
    """What adds up over images to the mean IoU: pixels of intersection and of union, a number for each class."""
    hits = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - hits
    return {name: " ".join(map(str, counts.tolist())) for name, counts in (("hits", hits), ("union", union))}


def _classes(logits: Tensor, dim: int) -> Tensor:
    """argmax, the first of equal ones; which torch on a CPU computes four times slower along any dimension but the last."""
    return logits.max(dim).indices


def score_of_sums(sums: np.ndarray, images: int) -> np.ndarray:
    """Mean IoU from pixels of intersection and of union, [..., 2 x classes]; classes that never occur do not count."""
    hits, union = np.split(np.asarray(sums, float), 2, axis=-1)
    occurs = union > 0
    shares = np.divide(hits, union, out=np.zeros_like(hits), where=occurs)
    return shares.sum(-1) / np.maximum(occurs.sum(-1), 1)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy at every second pixel; logits [B, classes, h, w] may still have to be resized to the masks."""
    targets = targets[:, ::MASK_STRIDE, ::MASK_STRIDE].long()
    logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, targets.where(targets < logits.shape[1], torch.full_like(targets, -100)))


def answer(logits: Tensor, names: Sequence[str]) -> Answer:
    """The class of each pixel, and the names of those that cover a thousandth of the picture or more, the largest first."""
    classes = _classes(logits, 0).cpu()
    found, counts = classes.unique(return_counts=True)
    shares = sorted(zip(counts.tolist(), found.tolist()), reverse=True)
    return Answer([(names[i], count / classes.numel()) for count, i in shares if 1000 * count >= classes.numel()],
                  classes.numpy())


def reply(logits: Tensor, names: Sequence[str]) -> dict:
    """{"classes": names that occur, the largest first, "map": base64 of a PNG, one byte per pixel, the class}."""
    if len(names) > 256:
        raise SpicError(f"{len(names)} classes: a map of one byte per pixel tells 256 apart")
    classes = _classes(logits, 0).to(torch.uint8).cpu().numpy()
    counts = np.bincount(classes.ravel(), minlength=len(names))
    found = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    buffer = io.BytesIO()
    Image.fromarray(classes).save(buffer, "PNG")
    return {"classes": [names[number] for number in found], "map": base64.b64encode(buffer.getvalue()).decode()}


TASK = Task("segmentation", (Score("miou", "mean IoU", "", 4, 0.01, 0.005),), MeanIoU, loss, 4, answer, reply,
            ("hits", "union"), score_of_sums)
