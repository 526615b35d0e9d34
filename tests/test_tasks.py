"""Top-k and mean IoU against values worked out by hand, and against the published formula."""

import numpy as np
import pytest
import torch

from spic.tasks.classification import TopK
from spic.tasks.segmentation import MeanIoU


def test_topk_counts_hits_by_hand():
    logits = torch.eye(6)[[0, 1, 2]] * 3 + torch.arange(6.0) * 0.1
    metric = TopK(6)
    rows = metric.update(logits, torch.tensor([0, 5, 0]))
    assert metric.counts.tolist() == [3, 1, 2]
    assert metric.result() == {"top1": pytest.approx(100 / 3), "top5": pytest.approx(200 / 3)}
    assert [row["top1"] for row in rows] == [1, 0, 0]
    assert [row["prediction"] for row in rows] == [0, 1, 2]


def test_topk_does_not_depend_on_how_images_are_batched():
    logits, labels = torch.randn(23, 10), torch.randint(10, (23,))
    whole, batched = TopK(10), TopK(10)
    whole.update(logits, labels)
    for chunk in range(0, 23, 7):
        batched.update(logits[chunk:chunk + 7], labels[chunk:chunk + 7])
    assert whole.result() == batched.result()


def test_mean_iou_by_hand():
    labels = torch.tensor([[[0, 0], [1, 1]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1], [1, 1]]]), 3).permute(0, 3, 1, 2).float()
    metric = MeanIoU(3)
    metric.update(logits, labels)
    assert metric.result()["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # class 2 never occurs and does not count


def test_mean_iou_ignores_pixels_whose_label_is_no_class():
    labels = torch.tensor([[[0, 7], [1, 255]]])
    logits = torch.zeros(1, 2, 2, 2)
    metric = MeanIoU(2)
    metric.update(logits, labels)
    assert metric.counts.sum() == 2


def test_mean_iou_agrees_with_the_published_formula():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 21, (3, 40, 40), generator=generator)
    logits = torch.randn(3, 21, 40, 40, generator=generator)
    metric = MeanIoU(21)
    metric.update(logits, labels)
    confusion = np.zeros((21, 21))
    np.add.at(confusion, (labels.numpy().ravel(), logits.argmax(1).numpy().ravel()), 1)
    diagonal = np.diag(confusion)
    expected = np.nanmean(diagonal / (confusion.sum(1) + confusion.sum(0) - diagonal))
    assert metric.result()["miou"] == pytest.approx(expected, abs=1e-12)
