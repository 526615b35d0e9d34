"""The networks: torchvision's own ResNet-50 and DeepLabV3-ResNet-50, at full width (official weights) or narrow.

The narrow variants keep the topology and every parameter name; only the number of channels is scaled.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import deeplabv3

_STAGE_PLANES = (64, 128, 256, 512)
_STAGE_BLOCKS = (3, 4, 6, 3)
_ASPP_CHANNELS = 256
_ASPP_RATES = (12, 24, 36)


class ResNet50(resnet.ResNet):
    """torchvision's ResNet-50 with all channel counts multiplied by ``width``; width 1 is the official network."""

    def __init__(self, width: float = 1.0, num_classes: int = 1000, dilate=(False, False, False)):
        super().__init__(resnet.Bottleneck, list(_STAGE_BLOCKS), num_classes, replace_stride_with_dilation=list(dilate))
        if width != 1.0:
            self._scale(width, num_classes, dilate)

    def _scale(self, width: float, num_classes: int, dilate) -> None:
        planes = [int(p * width) for p in _STAGE_PLANES]
        self.inplanes, self.dilation = planes[0], 1
        self.conv1 = nn.Conv2d(3, self.inplanes, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.inplanes)
        for i, (channels, blocks) in enumerate(zip(planes, _STAGE_BLOCKS)):
            options = {} if i == 0 else {"stride": 2, "dilate": dilate[i - 1]}
            setattr(self, f"layer{i + 1}", self._make_layer(resnet.Bottleneck, channels, blocks, **options))
        self.fc = nn.Linear(planes[-1] * resnet.Bottleneck.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class DeepLabV3(deeplabv3.DeepLabV3):
    """torchvision's DeepLabV3 whose forward gives the logits [B, classes, H, W] themselves, not a dict of them.

    It has no auxiliary head (used in training only); an official state dict, which holds one, still loads strictly.
    """

    def __init__(self, backbone: nn.Module, classifier: nn.Module):
        super().__init__(backbone, classifier, None)
        self.register_load_state_dict_pre_hook(_drop_auxiliary_head)

    def forward(self, x):
        return super().forward(x)["out"]


def _drop_auxiliary_head(module, state_dict, *_) -> None:
    for key in [key for key in state_dict if key.startswith("aux_classifier.")]:
        del state_dict[key]


def resnet50(width: float = 1.0, num_classes: int = 1000) -> ResNet50:
    """Classification network: image [B, 3, H, W] -> logits [B, num_classes]."""
    return ResNet50(width, num_classes)


def deeplabv3_resnet50(width: float = 1.0, num_classes: int = 21) -> DeepLabV3:
    """Segmentation network: image [B, 3, H, W] -> logits [B, num_classes, H, W]; layer3 and layer4 dilated."""
    trunk = ResNet50(width, dilate=(False, True, True))
    backbone = IntermediateLayerGetter(trunk, {"layer4": "out"})
    features = trunk.layer4[-1].conv3.out_channels
    channels = int(_ASPP_CHANNELS * width)
    head = nn.Sequential(
        deeplabv3.ASPP(features, _ASPP_RATES, channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, num_classes, 1),
    )
    return DeepLabV3(backbone, head)
