"""What a bottleneck trained without labels must preserve: the answers of the uncompressed network.

The labels' own loss, of a supervised bottleneck, is the task's (spic.tasks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from spic.errors import SpicError

TEMPERATURE = 3.0
FEATURE_WEIGHT = 0.5


class Output(NamedTuple):
    """What lies behind a bottleneck.

    logits: [B, classes] or, not yet resized to the picture, [B, classes, h, w]. hidden: what the last layer takes, or what
    the layer gives that is matched, of any shape; None for a network in which no such layer is passed by everything.
    """

    logits: Tensor
    hidden: Tensor | None


def distill_loss(student: Output, teacher: Output) -> Tensor:
    """Softened answers (Hinton et al. 2015) and the feature before the last layer, relative to its own size; a scalar."""
    soft = [output.logits / TEMPERATURE for output in (student, teacher)]
    divergence = F.kl_div(soft[0].log_softmax(1), soft[1].softmax(1), reduction="none").sum(1).mean()
    return TEMPERATURE ** 2 * divergence + FEATURE_WEIGHT * _feature_error(student.hidden, teacher.hidden)


def _feature_error(student: Tensor | None, teacher: Tensor | None) -> Tensor | float:
    if student is None or teacher is None:
        return 0.0
    return F.mse_loss(student, teacher) / teacher.var().clamp_min(1e-6)


def logits_error(student: Output, teacher: Output) -> Tensor:
    """Mean absolute error of the answers: the CVPR paper's own loss without labels; a scalar, in units of the logits."""
    return F.l1_loss(student.logits, teacher.logits)


def layer_error(student: Output, teacher: Output) -> Tensor:
    """Mean absolute error of what one layer gives (Fig. 4 of the paper compares layers); a scalar, in units of that feature."""
    return F.l1_loss(student.hidden, teacher.hidden)


TASK = "task"
LOSSES = {"distill": distill_loss, "mae": logits_error}
DISTORTIONS = (TASK, *LOSSES)
"""The labels' loss; softened answers and the feature before the last layer; the answers' absolute error. Beside these,
``mae@LAYER`` names the layer of the network that is matched."""
Loss = Callable[[Output, Output], Tensor]


def matched(distortion: str) -> tuple[Loss | None, str | None]:
    """(loss against the uncompressed network, None for labels; the layer that it looks at, None where that is fixed)."""
    kind, _, layer = distortion.partition("@")
    if kind == "mae" and layer:
        return layer_error, layer
    if distortion not in DISTORTIONS:
        raise SpicError(f"unknown distortion {distortion!r}; choose from {', '.join(DISTORTIONS)}, or mae@LAYER with a layer's name")
    return LOSSES.get(distortion), None
