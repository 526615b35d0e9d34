"""The bottleneck unit: a small encoder on the edge, a small decoder in the cloud, and their published geometry.

    encoder: depthwise 3x3 stride s -> BN -> ReLU -> 1x1 to `channels` -> BN -> ReLU        (then quantised, coded)
    decoder: 1x1 transposed -> BN -> ReLU -> depthwise transposed k x k stride s -> BN -> ReLU

Source: DESIGN of the published models (Ahuja et al., CVPR 2023; Datta et al., ICPR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from spic.errors import SpicError


@dataclass(frozen=True)
class Geometry:
    """Padding of the encoder; (kernel, padding) of the decoder for each stride that was published or is defined here."""

    encoder_padding: int
    decoder: dict[int, tuple[int, int]]


_CLASSIFICATION_LATE = Geometry(1, {1: (3, 1), 2: (3, 1), 4: (3, 0)})
_CLASSIFICATION_S3 = Geometry(1, {1: (3, 1), 2: (3, 0), 4: (5, 0)})
_SEGMENTATION = Geometry(0, {1: (3, 0), 2: (3, 0), 4: (5, 0), 6: (5, 0)})
_SEGMENTATION_S1 = Geometry(0, {1: (3, 0), 2: (3, 0), 4: (5, 0), 6: (5, 0), 8: (9, 0)})

GEOMETRY = {
    ("classification", "S1"): _CLASSIFICATION_LATE,
    ("classification", "S2"): _CLASSIFICATION_LATE,
    ("classification", "S3"): _CLASSIFICATION_S3,
    ("segmentation", "S1"): _SEGMENTATION_S1,
    ("segmentation", "S2"): _SEGMENTATION,
    ("segmentation", "S3"): _SEGMENTATION,
}


class Encoder(nn.Module):
    """[B, in_channels, H, W] -> non-negative feature [B, channels, h, w]."""

    def __init__(self, in_channels: int, channels: int, stride: int, padding: int):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.depthwise(x)).relu()
        return self.norm2(self.pointwise(x)).relu()


class Decoder(nn.Module):
    """Dequantised feature [B, channels, h, w] -> [B, out_channels, H', W'] for the back of the network."""

    def __init__(self, channels: int, out_channels: int, stride: int, kernel: int, padding: int):
        super().__init__()
        self.pointwise = nn.ConvTranspose2d(channels, out_channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.depthwise = nn.ConvTranspose2d(out_channels, out_channels, kernel, stride, padding,
                                            groups=out_channels, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, y: Tensor) -> Tensor:
        y = self.norm1(self.pointwise(y)).relu()
        return self.norm2(self.depthwise(y)).relu()


class Bottleneck(nn.Module):
    """Encoder and decoder of one operating point; ``decoder(encoder(x))`` without quantisation in between."""

    def __init__(self, encoder: Encoder, decoder: Decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def make_bottleneck(task: str, location: str, in_channels: int, channels: int, stride: int) -> Bottleneck:
    """The bottleneck with the published geometry of a task and a location (S1, S2 or S3).

    A decoder need not give back the exact size (published S3: 14x14 comes back as 15x15 or 17x17); the back runs on it.
    """
    geometry = GEOMETRY[task, location]
    if stride not in geometry.decoder:
        valid = ", ".join(map(str, geometry.decoder))
        raise SpicError(f"stride {stride} is not defined for {task} {location}; there are: {valid}")
    kernel, padding = geometry.decoder[stride]
    return Bottleneck(Encoder(in_channels, channels, stride, geometry.encoder_padding),
                      Decoder(channels, in_channels, stride, kernel, padding))
