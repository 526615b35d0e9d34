"""Cut a network in two at a split point: ``back(front(x))`` equals ``network(x)`` bit for bit.

A network is read as a chain of stations (its modules in the order of the forward pass); a split point names the
station after which the chain is cut. To try another split point, add a line to SPLIT_AFTER.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import ResNet

from spic.errors import SpicError

SPLIT_AFTER = {
    "classification": {"S1": "layer4.2", "S2": "layer4.0", "S3": "layer3.4"},
    "segmentation": {"S1": "classifier.0", "S2": "backbone.layer4.1", "S3": "backbone.layer3.5"},
}
# The published segmentation S1 is no split: its bottleneck sits in one of five parallel ASPP branches.
PUBLISHED_BRANCH = "classifier.0.convs.1"
_CODED_BRANCH = 1
_OUTPUT_STRIDE = 8  # of the dilated DeepLabV3: an input of 8k + 1 pixels gives a feature of k + 1


class Front(nn.Sequential):
    """The edge half: image [B, 3, H, W] -> feature [B, C, h, w]."""


class Back(nn.Sequential):
    """The cloud half: feature -> logits. ``image_size`` (H, W) is used by networks that answer per pixel."""

    def forward(self, feature: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
        return super().forward(feature)

    def place(self, decoded: Tensor, grid: tuple[int, int]) -> Tensor:
        """A decoded feature as this back takes it: of any size, as published (S3: 15x15 or 17x17 for 14x14)."""
        return decoded


class PixelBack(Back):
    """A back that answers per pixel: logits are resized to the image, as torchvision's segmentation models do."""

    def forward(self, feature: Tensor, image_size: tuple[int, int] | None = None) -> Tensor:
        size = image_size or [(n - 1) * _OUTPUT_STRIDE + 1 for n in first(feature).shape[-2:]]
        return F.interpolate(super().forward(feature), size=list(size), mode="bilinear", align_corners=False)

    def place(self, decoded: Tensor, grid: tuple[int, int]) -> Tensor:
        """Exactly (h, w) = ``grid``, the front's size: a column too many would stretch the answer against the image.

        What a decoder gives beyond is cut off, what it does not reach repeats its edge. The published geometry is exact
        for 65x65, and not for every other size.
        """
        rows, columns = (max(0, want - have) for want, have in zip(grid, decoded.shape[-2:]))
        return F.pad(decoded, (0, columns, 0, rows), mode="replicate")[..., :grid[0], :grid[1]]


class Branches(nn.Module):
    """The five parallel branches of ASPP: feature -> four features of the same size and one pooled to a single pixel."""

    def __init__(self, convs: nn.ModuleList):
        super().__init__()
        self.convs = convs

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        *convs, pooling = self.convs
        pooled = nn.Sequential.forward(pooling, x)  # ASPPPooling without its resizing, which adds no information
        return *(conv(x) for conv in convs), pooled


class Projection(nn.Module):
    """The end of ASPP: the pooled feature back to full size, all five concatenated and projected to one."""

    def __init__(self, project: nn.Module):
        super().__init__()
        self.project = project

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        *full, pooled = features
        resized = F.interpolate(pooled, size=full[0].shape[-2:], mode="bilinear", align_corners=False)
        return self.project(torch.cat([*full, resized], dim=1))


def parts(feature: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What a front gives -> (the feature to code, the tensors that bypass the coder: none at a real split)."""
    if isinstance(feature, Tensor):
        return feature, ()
    return feature[_CODED_BRANCH], (*feature[:_CODED_BRANCH], *feature[_CODED_BRANCH + 1:])


def join(coded: Tensor, uncoded: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """The inverse of ``parts``: what a back takes."""
    return (*uncoded[:_CODED_BRANCH], coded, *uncoded[_CODED_BRANCH:]) if uncoded else coded


def first(feature: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The coded tensor of a feature."""
    return parts(feature)[0]


def stations(network: nn.Module) -> dict[str, nn.Module]:
    """The chain of a ResNet or a DeepLabV3: module path -> module, in the order of the forward pass."""
    if isinstance(network, ResNet):
        chain = dict(network.named_children())
        return _open_stages(chain | {"fc": nn.Sequential(nn.Flatten(1), chain["fc"])})
    aspp, *head = network.classifier
    chain = {f"backbone.{name}": module for name, module in network.backbone.named_children()}
    chain |= {PUBLISHED_BRANCH: Branches(aspp.convs), "classifier.0": Projection(aspp.project)}
    chain |= {f"classifier.{i}": module for i, module in enumerate(head, start=1)}
    return _open_stages(chain)


def _open_stages(chain: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Residual stages are chains themselves: open them, so that a split point can sit after any block."""
    opened = {}
    for path, module in chain.items():
        blocks = module.named_children() if "layer" in path else ()
        opened |= {f"{path}.{name}": block for name, block in blocks} or {path: module}
    return opened


def module_path(network: nn.Module, split_point: str) -> str:
    """S1 or US1 -> the path of the station it cuts after in this network; a path stays as it is."""
    task = "classification" if isinstance(network, ResNet) else "segmentation"
    return SPLIT_AFTER[task].get(split_point.removeprefix("U"), split_point)


def depth(network: nn.Module, split_point: str) -> int:
    """Index of the station a split point cuts after; deeper is larger."""
    paths = list(stations(network))[:-1]
    path = module_path(network, split_point)
    if path not in paths:
        raise SpicError(f"unknown split point {split_point!r}; there are: S1, S2, S3, US1, US2, {', '.join(paths)}")
    return paths.index(path)


def cut(network: nn.Module, split_point: str) -> tuple[Front, Back]:
    """Front and back of ``network``, sharing its parameters; each parameter lives in exactly one half.

    ``split_point``: S1, S2, S3, US1, US2, or the path of the module to cut after (``layer3.4``).
    """
    (front,), (back,) = cut_many(network, [split_point])
    return front, back


def cut_many(network: nn.Module, split_points: list[str]) -> tuple[list[Front], list[Back]]:
    """Cut at several split points, given in order of depth, so that one pass over the network serves them all.

    ``fronts[i]`` continues where ``fronts[i - 1]`` ended; ``backs[i]`` is the whole rest behind split point i.
    """
    modules = list(stations(network).values())
    ends = [depth(network, point) + 1 for point in split_points]
    back_type = Back if isinstance(network, ResNet) else PixelBack
    fronts = [Front(*_without_side_effect(modules[start:end])) for start, end in pairwise([0, *ends])]
    return fronts, [back_type(*_without_side_effect(modules[end:])) for end in ends]


def _without_side_effect(modules: list[nn.Module]) -> list[nn.Module]:
    """A half that begins with an in-place ReLU would overwrite the feature it was given."""
    return [nn.ReLU(), *modules[1:]] if isinstance(modules[0], nn.ReLU) else modules
