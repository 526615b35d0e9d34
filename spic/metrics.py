"""Top-k accuracy and mean IoU, computed as the published scripts do, from counts that add up over processes."""

from __future__ import annotations

import torch
from torch import Tensor


class TopK:
    """Share of images whose label is among the k highest logits, in percent.

    ``counts``: int64 [images, top-1 hits, top-5 hits].
    """

    def __init__(self, num_classes: int):
        self.ks = (1, min(5, num_classes))
        self.counts = torch.zeros(3, dtype=torch.int64)

    def update(self, logits: Tensor, labels: Tensor) -> list[dict]:
        """logits [B, classes], labels [B] -> one row per image for the per-image file."""
        ranked = logits.topk(self.ks[-1], dim=1).indices
        hits = ranked.eq(labels.view(-1, 1).to(ranked.device)).cpu()
        top1, top5 = hits[:, 0], hits.any(1)
        self.counts += torch.stack([torch.tensor(len(hits)), top1.sum(), top5.sum()])
        rows = zip(labels.tolist(), ranked[:, 0].tolist(), top1.int().tolist(), top5.int().tolist())
        return [dict(zip(("label", "prediction", "top1", "top5"), row)) for row in rows]

    def result(self) -> dict[str, float]:
        images, top1, top5 = self.counts.tolist()
        return {"top1": 100.0 * top1 / images, "top5": 100.0 * top5 / images}


class MeanIoU:
    """Mean over classes of intersection over union, 0 to 1; classes that never occur do not count.

    ``counts``: int64 confusion matrix [label, prediction]; pixels whose label is no class are not scored.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, logits: Tensor, labels: Tensor) -> list[dict]:
        """logits [B, classes, H, W], labels [B, H, W] -> one row per image for the per-image file."""
        matrices = self._confusion(logits.argmax(1).cpu(), labels.cpu())
        self.counts += matrices.sum(0)
        return [{"miou": mean_iou(matrix)} for matrix in matrices]

    def _confusion(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """One matrix per image, [B, classes, classes]: a single count, in which each image has cells of its own."""
        cells = self.num_classes**2
        scored = (labels >= 0) & (labels < self.num_classes)
        index = torch.where(scored, self.num_classes * labels.long() + predictions, cells).flatten(1)
        index = index + torch.arange(len(index))[:, None] * (cells + 1)  # the last cell of an image takes the rest
        counts = torch.bincount(index.flatten(), minlength=len(index) * (cells + 1)).view(len(index), cells + 1)
        return counts[:, :cells].view(-1, self.num_classes, self.num_classes)

    def result(self) -> dict[str, float]:
        return {"miou": mean_iou(self.counts)}


def mean_iou(confusion: Tensor) -> float:
    """Mean over the classes that occur in labels or predictions of the diagonal over the union."""
    hits = confusion.diag().double()
    return (hits / (confusion.sum(0) + confusion.sum(1) - hits)).nanmean().item()


METRICS = {"classification": TopK, "segmentation": MeanIoU}
