"""What every task answers for: its metric, its loss, the names and digits of its scores, how an answer is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """A number that says how good answers are.

    key: its name in records. label: for tables and axes. unit: "%" for 0 to 100, "" for 0 to 1. digits: after the point.
    drop: "one point" in this unit. same: the largest difference between two runs of one network.
    """

    key: str
    label: str
    unit: str
    digits: int
    drop: float
    same: float

    def text(self, value: float) -> str:
        """The value as tables show it, unit included."""
        return f"{value:.{self.digits}f}{' ' if self.unit else ''}{self.unit}"

    @property
    def axis(self) -> str:
        """The label of an axis or a column."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


AGREEMENT = Score("agreement", "agreement with the uncompressed network", "%", 2, 1.0, 0.0)
"""Share of answers (of pictures, or of pixels) that are those of the uncompressed network; it needs no labels."""

DIVERGENCE = Score("divergence", "Kullback-Leibler divergence from the uncompressed network", "nats", 4, 0.01, 0.0)
"""Of the certainties of all classes, D(uncompressed || compressed), per picture or per pixel. It needs no labels, and says
what answers that stay the same have lost: 0 for the uncompressed network, not better when larger."""
PARTS = 1 << 20
"""Of a nat: divergences are added up in whole numbers, so that neither batches nor processes change a digit."""
MOST_NATS = 1e6  # of one picture's answers


@dataclass(frozen=True)
class Answer:
    """What a person is told about one picture.

    ranked: (name, share of certainty or of the picture's pixels, 0 to 1), the largest first.
    classes: int [H, W] with one class per pixel, for tasks that answer per pixel; else None.
    """

    ranked: list[tuple[str, float]]
    classes: np.ndarray | None = None


class Metric(ABC):
    """Scores of a network's answers, kept as counts that add up over batches and processes.

    counts: int64, for the labels. agreed: int64 [answers, answers equal to the uncompressed network's, their divergence from
    it in PARTS of a nat]. A data set without labels (targets None) is scored by these alone.
    """

    def __init__(self, num_classes: int, counts: Tensor):
        self.num_classes = num_classes
        self.counts = counts
        self.agreed = torch.zeros(3, dtype=torch.int64)

    def update(self, logits: Tensor, targets: Tensor | None, reference: Tensor | None = None) -> list[dict]:
        """Count a batch; one row per image for the per-image file.

        logits, reference (of the uncompressed network): [B, classes] or [B, classes, H, W]; targets: see the task.
        """
        answers = logits.argmax(1)
        if reference is not None:
            reference = reference.to(logits.device)
            same = answers.eq(reference.argmax(1))
            self.agreed += torch.tensor([same.numel(), int(same.sum()), int(_divergences(logits, reference).sum())])
        return self._unlabelled_rows(answers) if targets is None else self._count(logits, targets)

    def result(self) -> dict[str, float]:
        """Score key → value, of those scores for which something was counted."""
        answers, same, parts = self.agreed.tolist()
        scores = self._result() if self.counts.any() else {}
        return scores | ({AGREEMENT.key: 100.0 * same / answers, DIVERGENCE.key: parts / PARTS / answers} if answers else {})

    @abstractmethod
    def _count(self, logits: Tensor, targets: Tensor) -> list[dict]:
        """Add a batch to ``counts``."""

    @abstractmethod
    def _result(self) -> dict[str, float]:
        """The scores that ``counts`` stand for."""

    def _unlabelled_rows(self, answers: Tensor) -> list[dict]:
        return [{} for _ in answers]


def _divergences(logits: Tensor, reference: Tensor) -> Tensor:
    """Of two batches of logits [B, classes, ...]: int64 [B], each picture's sum in PARTS of a nat."""
    whole, part = reference.float().log_softmax(1), logits.float().log_softmax(1)
    nats = (whole.exp() * (whole - part)).flatten(1).sum(1, dtype=torch.float64)
    return (nats.nan_to_num(MOST_NATS).clamp(0, MOST_NATS) * PARTS).round().long()


@dataclass(frozen=True)
class Task:
    """One kind of question that networks answer.

    scores: the first one is the accuracy of curves. metric: number of classes → Metric. loss: (logits, targets) →
    scalar, for supervised training; targets of no known class are not scored. batch_size: images per step of val.py.
    answer: (logits of one image [classes, ...], class names) → Answer. reply: the same → what a cloud says of one
    picture, ready for JSON (spic.protocol).
    summed: names of what a row per image holds that adds up over images (numbers between spaces), and decides the first
    score; score_of_sums: (those sums [..., values], number of images) → that score [...], so that any choice of images
    can be scored again.
    """

    name: str
    scores: tuple[Score, ...]
    metric: Callable[[int], Metric]
    loss: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    answer: Callable[[Tensor, Sequence[str]], Answer]
    reply: Callable[[Tensor, Sequence[str]], dict]
    summed: tuple[str, ...]
    score_of_sums: Callable[[np.ndarray, int], np.ndarray]

    def accuracy(self, measured) -> Score:
        """The score that stands for accuracy among those measured (keys): the task's first, or agreement without labels."""
        return self.scores[0] if self.scores[0].key in measured else AGREEMENT
