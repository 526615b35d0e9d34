"""Top-k and mean IoU against values worked out by hand, and against the published formula."""

import math

import numpy as np
import pytest
import torch

from spic.tasks.classification import TopK
from spic.tasks.segmentation import MeanIoU, _classes


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


@pytest.mark.parametrize("metric,shape", [(TopK, ()), (MeanIoU, (2, 3))])
def test_divergence_by_hand(metric, shape):
    sure, halves = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])
    logits, reference = (share.log().reshape(1, 2, *[1] * len(shape)).expand(3, 2, *shape) for share in (halves, sure))
    scored = metric(2)
    scored.update(logits, None, reference)
    assert scored.result()["divergence"] == pytest.approx(0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5), abs=1e-6)
    assert scored.result()["agreement"] == 100.0


def test_divergence_does_not_depend_on_how_images_are_batched():
    logits, reference = torch.randn(23, 10), torch.randn(23, 10) * 40
    whole, batched = TopK(10), TopK(10)
    whole.update(logits, None, reference)
    for chunk in range(0, 23, 7):
        batched.update(logits[chunk:chunk + 7], None, reference[chunk:chunk + 7])
    assert whole.result() == batched.result() and whole.result()["divergence"] > 0


def test_a_certainty_of_nothing_is_a_large_divergence_and_no_overflow():
    metric = TopK(2)
    metric.update(torch.tensor([[-math.inf, 0.0]]), None, torch.tensor([[0.0, 0.0]]))
    assert metric.result()["divergence"] == 1e6


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


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_of_equal_logits_the_first_class_is_the_answer(layout):
    logits = torch.randint(0, 3, (2, 21, 16, 16), generator=torch.Generator().manual_seed(0)).float().contiguous(memory_format=layout)
    assert torch.equal(_classes(logits, 1), logits.argmax(1))
