"""What a bottleneck must preserve: the labels' task (supervised), or the uncompressed network's answers (unsupervised).

Both take the ``Answer`` of the network behind the bottleneck; ``distill`` never sees a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 3.0
FEATURE_WEIGHT = 0.5
MASK_STRIDE = 2  # masks are compared at every second pixel: half the resolution, a quarter of the work


@dataclass(frozen=True)
class Answer:
    """Logits [B, classes] or, not yet resized to the picture, [B, classes, h, w]; and what the last layer saw."""

    logits: Tensor
    hidden: Tensor


def answer(back: nn.Sequential, feature: Tensor) -> Answer:
    """Run a back on a feature, keeping the input of its last layer."""
    for module in back[:-1]:
        feature = module(feature)
    return Answer(back[-1](feature).float(), feature.float())


def task_loss(student: Answer, target: Tensor) -> Tensor:
    """Cross-entropy with labels [B] or masks [B, H, W]; classes the network does not know are not scored."""
    logits, classes = student.logits, student.logits.shape[1]
    if logits.ndim == 4:
        target = target[:, ::MASK_STRIDE, ::MASK_STRIDE]
        logits = F.interpolate(logits, target.shape[-2:], mode="bilinear", align_corners=False)
    target = target.long()
    return F.cross_entropy(logits, target.where(target < classes, torch.full_like(target, -100)))


def distill_loss(student: Answer, teacher: Answer) -> Tensor:
    """Softened outputs (Hinton et al. 2015) and the features before the last layer, relative to their own size."""
    soft = [answer.logits / TEMPERATURE for answer in (student, teacher)]
    divergence = F.kl_div(soft[0].log_softmax(1), soft[1].softmax(1), reduction="none").sum(1).mean()
    error = F.mse_loss(student.hidden, teacher.hidden) / teacher.hidden.var().clamp_min(1e-6)
    return TEMPERATURE ** 2 * divergence + FEATURE_WEIGHT * error
