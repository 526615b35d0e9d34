"""What a bottleneck trained without labels must preserve: the answers of the uncompressed network.

The labels' own loss, of a supervised bottleneck, is the task's (spic.tasks).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 3.0
FEATURE_WEIGHT = 0.5


class Output(NamedTuple):
    """What lies behind a bottleneck.

    logits: [B, classes] or, not yet resized to the picture, [B, classes, h, w]. hidden: what the last layer takes, of any
    shape; None for a network in which no such layer is passed by everything.
    """

    logits: Tensor
    hidden: Tensor | None


def distill_loss(student: Output, teacher: Output) -> Tensor:
    """Softened answers (Hinton et al. 2015) and the feature before the last layer, relative to its own size; a scalar.

    The paper's own unsupervised loss is the mean absolute error of the logits.
    """
    soft = [output.logits / TEMPERATURE for output in (student, teacher)]
    divergence = F.kl_div(soft[0].log_softmax(1), soft[1].softmax(1), reduction="none").sum(1).mean()
    return TEMPERATURE ** 2 * divergence + FEATURE_WEIGHT * _feature_error(student.hidden, teacher.hidden)


def _feature_error(student: Tensor | None, teacher: Tensor | None) -> Tensor | float:
    if student is None or teacher is None:
        return 0.0
    return F.mse_loss(student, teacher) / teacher.var().clamp_min(1e-6)
