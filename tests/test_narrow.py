"""The narrow networks at full width are torchvision's own."""

import torch
import torchvision

from spic.networks.narrow import deeplabv3_resnet50, resnet50


def test_official_state_dicts_load_strictly():
    resnet50().load_state_dict(torchvision.models.resnet50(weights=None).state_dict(), strict=True)
    official = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    deeplabv3_resnet50().load_state_dict(official.state_dict(), strict=True)


def test_full_width_equals_torchvision():
    official = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, aux_loss=True).eval()
    ours = deeplabv3_resnet50().eval()
    ours.load_state_dict(official.state_dict())
    image = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(ours(image), official(image)["out"])
