"""Classification: one of N classes for a picture. logits [B, classes], targets int64 [B]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spic.tasks.task import Answer, Metric, Score, Task

SHOWN = 5


class TopK(Metric):
    """Share of images whose label is among the k highest logits, in percent, as the published scripts compute it.

    counts: int64 [images, top-1 hits, top-5 hits].
    """

    def __init__(self, num_classes: int):
        super().__init__(num_classes, torch.zeros(3, dtype=torch.int64))
        self.most = min(5, num_classes)

    def _count(self, logits: Tensor, targets: Tensor) -> list[dict]:
        ranked = logits.topk(self.most, dim=1).indices
        hits = ranked.eq(targets.view(-1, 1).to(ranked.device)).cpu()
        top1, top5 = hits[:, 0], hits.any(1)
        self.counts += torch.stack([torch.tensor(len(hits)), top1.sum(), top5.sum()])
        rows = zip(targets.tolist(), ranked[:, 0].tolist(), top1.int().tolist(), top5.int().tolist())
        return [dict(zip(("label", "prediction", "top1", "top5"), row)) for row in rows]

    def _result(self) -> dict[str, float]:
        images, top1, top5 = self.counts.tolist()
        return {"top1": 100.0 * top1 / images, "top5": 100.0 * top5 / images}

    def _unlabelled_rows(self, answers: Tensor) -> list[dict]:
        return [{"prediction": answer} for answer in answers.tolist()]


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy; labels the network does not know are not scored."""
    known = targets.long()
    return F.cross_entropy(logits, known.where(known < logits.shape[1], torch.full_like(known, -100)))


def answer(logits: Tensor, names: Sequence[str]) -> Answer:
    """The most certain classes by name."""
    shares, classes = logits.float().softmax(0).topk(min(SHOWN, len(logits)))
    return Answer([(names[i], share) for i, share in zip(classes.tolist(), shares.tolist())])


def reply(logits: Tensor, names: Sequence[str]) -> dict:
    """{"top": [{"class", "name", "score"}, the most certain first]}."""
    shares, classes = logits.float().softmax(0).topk(min(SHOWN, len(logits)))
    return {"top": [{"class": number, "name": names[number], "score": share}
                    for number, share in zip(classes.tolist(), shares.tolist())]}


def score_of_sums(sums: np.ndarray, images: int) -> np.ndarray:
    """Top-1 in percent from hits [..., 1]."""
    return 100.0 * sums[..., 0] / images


TASK = Task("classification", (Score("top1", "top-1 accuracy", "%", 2, 1.0, 0.5), Score("top5", "top-5 accuracy", "%", 2, 1.0, 0.5)),
            TopK, loss, 64, answer, reply, ("top1",), score_of_sums)
