"""A torchvision network, at full or narrow width, and the two halves it is cut into."""

from spic.networks.narrow import NETWORKS, deeplabv3_resnet50, resnet50
from spic.networks.split import cut, cut_many

__all__ = ["NETWORKS", "cut", "cut_many", "deeplabv3_resnet50", "resnet50"]
