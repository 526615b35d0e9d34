"""The bottleneck unit: a small encoder on the edge, a small decoder in the cloud, for any feature of a network.

The published form, "separable", gives no negative number:

    encoder: depthwise 3x3 stride s -> BN -> ReLU -> 1x1 to `channels` -> BN -> ReLU        (then quantised, coded)
    decoder: 1x1 transposed -> BN -> ReLU -> depthwise transposed k x k stride s -> BN -> last activation

Three more topologies, which the CVPR paper compares it with (Table 3), give none either. "conv" is one full convolution:

    encoder: 3x3 stride s to `channels` -> BN -> ReLU
    decoder: transposed k x k stride s -> BN -> last activation

"separable2" and "conv2" have a second layer of the same kind, `channels` to `channels`, 3x3 of stride 1, behind the
encoder's and mirrored before the decoder's. The paper does not say what its second layer is; this is a reading.

The form "linear" has a closed solution (spic.training.closed), and gives numbers of any sign; "rectified" is the same with
a ReLU behind the encoder, so that what is small is not sent at all:

    encoder: the lowest frequencies of each channel's map -> onto `channels` directions -> scaled, an offset taken off
    decoder: scaled back -> from the directions -> back to a map, the mean added -> last activation

Features are [B, C, H, W], or [B, H, W, C] (Swin), or tokens [B, N, D] (ViT: no neighbours in the plane, so 1x1 only and
no stride). The last activation is ReLU as published, or none where features take negative values.

Source: Ahuja et al., CVPR 2023; Datta et al., ICPR 2022; the published geometry read off their checkpoints and code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spic.errors import SpicError

ACTIVATIONS = ("relu", "none")
SEPARABLE, SEPARABLE2, CONV, CONV2 = TOPOLOGIES = ("separable", "separable2", "conv", "conv2")
LINEAR, RECTIFIED = CLOSED = ("linear", "rectified")
"""The forms that have a closed solution."""
FORMS = (*TOPOLOGIES, *CLOSED)
MAX_CHANNELS = 1 << 16


@dataclass(frozen=True)
class Geometry:
    """Sizes and paddings of a bottleneck's convolutions with the stride.

    encoder: kernel and padding. decoder: stride -> (kernel, padding). exact: the decoder's answer is cut, or its edge
    repeated, to the front's size; the published classification runs on what comes (S3: 15x15 or 17x17 for 14x14).
    derived: the decoder is made to give that very size by itself.
    """

    encoder: tuple[int, int]
    decoder: dict[int, tuple[int, int]]
    exact: bool = True
    derived: bool = False


PUBLISHED_LATE = Geometry((3, 1), {1: (3, 1), 2: (3, 1), 4: (3, 0)}, exact=False)
"""Published classification S1 and S2: 7x7 comes back as 7x7."""
PUBLISHED_EARLY = Geometry((3, 1), {1: (3, 1), 2: (3, 0), 4: (5, 0)}, exact=False)
"""Published classification S3: 14x14 comes back as 15x15 or 17x17."""
PUBLISHED_PIXELS = Geometry((3, 0), {1: (3, 0), 2: (3, 0), 4: (5, 0), 6: (5, 0), 8: (9, 0)})
"""Published segmentation, all split points; the strides 6 and 8 were published for S1 alone."""


def derived(stride: int) -> Geometry:
    """For any stride: every third cell and more is seen by the encoder, and the decoder gives back every cell."""
    kernel = max(3, stride + 1 - stride % 2)
    return Geometry((3, 1), {stride: (kernel, (kernel - 1) // 2)}, derived=True)


def _missing(grid: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns that a derived decoder of one cell per ``stride`` would not reach: its output padding."""
    return tuple((side - 1) % stride for side in grid)


_TOKENS = Geometry((1, 0), {1: (1, 0)})


@dataclass(frozen=True)
class Planes:
    """Between a network's feature and [B, C, H, W].

    shape: of the network's feature, without the batch. channels_last: [H, W, C] instead of [C, H, W].
    """

    shape: tuple[int, ...]
    channels_last: bool

    @property
    def plane(self) -> tuple[int, int, int]:
        """(C, H, W) of the feature as the convolutions see it."""
        if len(self.shape) == 3:
            return (self.shape[2], *self.shape[:2]) if self.channels_last else self.shape
        return (self.shape[-1], self.shape[0] if len(self.shape) == 2 else 1, 1)

    def open(self, feature: Tensor) -> Tensor:
        """The network's feature -> [B, C, H, W]."""
        if len(self.shape) == 2:
            return feature.transpose(1, 2).unsqueeze(-1)
        if len(self.shape) == 1:
            return feature[:, :, None, None]
        return feature.permute(0, 3, 1, 2) if self.channels_last else feature

    def close(self, planes: Tensor) -> Tensor:
        """[B, C, H, W] -> the network's feature."""
        if len(self.shape) == 2:
            return planes.squeeze(-1).transpose(1, 2)
        if len(self.shape) == 1:
            return planes.flatten(1)
        return planes.permute(0, 2, 3, 1) if self.channels_last else planes


Layer = dict[str, nn.Conv2d | nn.ConvTranspose2d]
"""Name -> convolution, in order of use; BatchNorm and an activation follow each."""


def _full(kind: type, incoming: int, outgoing: int, *geometry) -> Layer:
    """One convolution of all channels."""
    return {"conv": kind(incoming, outgoing, *geometry, bias=False)}


def _separable(kind: type, incoming: int, outgoing: int, *geometry) -> Layer:
    """In the plane and then across channels; transposed ones the other way round."""
    if kind is nn.ConvTranspose2d:
        return {"pointwise": kind(incoming, outgoing, 1, bias=False),
                "depthwise": kind(outgoing, outgoing, *geometry, groups=outgoing, bias=False)}
    return {"depthwise": kind(incoming, incoming, *geometry, groups=incoming, bias=False),
            "pointwise": kind(incoming, outgoing, 1, bias=False)}


_LAYERS: dict[str, tuple[Callable[..., Layer], int]] = {
    SEPARABLE: (_separable, 1), SEPARABLE2: (_separable, 2), CONV: (_full, 1), CONV2: (_full, 2)}
"""Topology -> its layers' kind and number."""


def _inner(form: str, kind: type, channels: int, geometry: Geometry) -> Layer:
    """The layers between the one with the stride and what is coded: they keep channels, rows and columns."""
    layer, count = _LAYERS[form]
    kernel = geometry.encoder[0]
    return {f"{name}{number}": convolution for number in range(2, count + 1)
            for name, convolution in layer(kind, channels, channels, kernel, 1, kernel // 2).items()}


class _Layers(nn.Module):
    """Convolutions, each followed by a BatchNorm: ``depthwise``, ``norm1``, ``pointwise``, ``norm2``."""

    def __init__(self, planes: Planes, layers: Layer):
        super().__init__()
        self.planes, self._names = planes, tuple(layers)
        for number, (name, convolution) in enumerate(layers.items(), 1):
            self.add_module(name, convolution)
            self.add_module(f"norm{number}", nn.BatchNorm2d(convolution.out_channels))

    def _pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each convolution and its norm, in order of use; looked up anew, because folding puts others in their places."""
        return [(getattr(self, name), getattr(self, f"norm{number}")) for number, name in enumerate(self._names, 1)]


class Encoder(_Layers):
    """Feature -> non-negative [B, channels, h, w]."""

    signed = False
    scaled = False  # its weights are of the size that layers begin with

    def __init__(self, planes: Planes, channels: int, stride: int, geometry: Geometry, form: str = SEPARABLE):
        first = _LAYERS[form][0](nn.Conv2d, planes.plane[0], channels, geometry.encoder[0], stride, geometry.encoder[1])
        super().__init__(planes, first | _inner(form, nn.Conv2d, channels, geometry))
        self.stride, self.channels, self._geometry = stride, channels, geometry.encoder

    def forward(self, feature: Tensor) -> Tensor:
        x = self.planes.open(feature)
        for convolution, norm in self._pairs():
            x = norm(convolution(x)).relu()
        return x

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, h, w) of what is coded for one image."""
        kernel, padding = self._geometry
        return (self.channels, *((side + 2 * padding - kernel) // self.stride + 1 for side in self.planes.plane[1:]))


class Decoder(_Layers):
    """Dequantised feature [B, channels, h, w] -> the feature for the back of the network."""

    def __init__(self, planes: Planes, channels: int, stride: int, geometry: Geometry, activation: str, form: str = SEPARABLE):
        kernel, padding = geometry.decoder[stride]
        rest = _missing(planes.plane[1:], stride) if geometry.derived else 0
        last = _LAYERS[form][0](nn.ConvTranspose2d, channels, planes.plane[0], kernel, stride, padding, rest)
        super().__init__(planes, _inner(form, nn.ConvTranspose2d, channels, geometry) | last)
        self.exact, self.activation = geometry.exact, activation

    def forward(self, y: Tensor) -> Tensor:
        *inner, (convolution, norm) = self._pairs()
        for before, its_norm in inner:
            y = its_norm(before(y)).relu()
        y = norm(convolution(y))
        return y.relu() if self.activation == "relu" else y

    def place(self, decoded: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """What ``forward`` gave, as the back takes it: on the front's grid, (H, W); another one for a window of it.

        Exactly that size (but for the published classification): a column too many would stretch the answer against
        the image. What a decoder gives beyond is cut off, what it does not reach repeats its edge.
        """
        if self.exact:
            grid = grid or self.planes.plane[1:]
            rows, columns = (max(0, want - have) for want, have in zip(grid, decoded.shape[-2:]))
            decoded = F.pad(decoded, (0, columns, 0, rows), mode="replicate")[..., :grid[0], :grid[1]]
        return self.planes.close(decoded)


def cosines(side: int, kept: int) -> Tensor:
    """The ``kept`` lowest frequencies of the orthonormal discrete cosine transform (type II): [kept, side]."""
    frequency, place = torch.arange(kept, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64)
    waves = torch.cos(math.pi / side * (place + 0.5) * frequency) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    return waves.float()


class Frequencies(nn.Module):
    """Between maps [B, C, H, W] and their lowest frequencies [B, C, ceil(H / stride), ceil(W / stride)].

    A stride as large as the map leaves one number, its mean times sqrt(H W). Tokens have no neighbours and stay as they are.
    """

    def __init__(self, planes: Planes, stride: int):
        super().__init__()
        for name, side in zip(("rows", "columns"), planes.plane[1:]):
            waves = torch.eye(side) if len(planes.shape) < 3 else cosines(side, -(-side // stride))
            self.register_buffer(name, waves, persistent=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the frequencies that are kept."""
        return len(self.rows), len(self.columns)

    def forward(self, maps: Tensor) -> Tensor:
        return self.rows @ maps @ self.columns.T

    def back(self, frequencies: Tensor) -> Tensor:
        """Frequencies -> maps, smoother where some were left out."""
        return self.rows.T @ frequencies @ self.columns


class LinearEncoder(nn.Module):
    """Feature -> [B, channels, h, w] of any sign, or none below 0 where ``rectified``.

    directions: [channels, C]. scale, offset: [channels, h, w], so that one step of the quantiser suits all.
    """

    scaled = True  # its weights have the units of the feature and of the answer, and so any size

    def __init__(self, planes: Planes, channels: int, stride: int, rectified: bool = False):
        super().__init__()
        self.signed = not rectified
        self.planes, self.stride, self.frequencies = planes, stride, Frequencies(planes, stride)
        self.channels, self.shape = channels, (channels, *self.frequencies.shape)
        self.directions = nn.Parameter(torch.zeros(channels, planes.plane[0]))
        self.scale = nn.Parameter(torch.ones(self.shape))
        self.offset = nn.Parameter(torch.zeros(self.shape))

    def forward(self, feature: Tensor) -> Tensor:
        frequencies = self.frequencies(self.planes.open(feature))
        y = torch.einsum("kc,bchw->bkhw", self.directions, frequencies) * self.scale - self.offset
        return y if self.signed else y.relu()


class LinearDecoder(nn.Module):
    """Dequantised feature [B, channels, h, w] -> the feature for the back of the network.

    gain: [channels, h, w]. directions: [C, channels]. mean: [C, H, W], of all features.
    """

    def __init__(self, planes: Planes, channels: int, stride: int, activation: str):
        super().__init__()
        self.planes, self.frequencies, self.activation = planes, Frequencies(planes, stride), activation
        self.gain = nn.Parameter(torch.ones(channels, *self.frequencies.shape))
        self.directions = nn.Parameter(torch.zeros(planes.plane[0], channels))
        self.mean = nn.Parameter(torch.zeros(planes.plane))

    def forward(self, y: Tensor) -> Tensor:
        frequencies = torch.einsum("ck,bkhw->bchw", self.directions, y * self.gain)
        y = self.frequencies.back(frequencies) + self.mean
        return y.relu() if self.activation == "relu" else y

    def place(self, decoded: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """What ``forward`` gave, as the back takes it; of a window of the feature no frequencies are known."""
        if grid not in (None, tuple(self.planes.plane[1:])):
            raise SpicError(f"a linear bottleneck for maps of {self.planes.plane[1:]} cannot learn on windows of {grid}; train "
                            "the form separable")
        return self.planes.close(decoded)


class Bottleneck(nn.Module):
    """Encoder and decoder of one operating point; ``forward`` is the way through both without quantisation."""

    def __init__(self, encoder: Encoder | LinearEncoder, decoder: Decoder | LinearDecoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, feature: Tensor) -> Tensor:
        return self.decoder.place(self.decoder(self.encoder(feature)))


def make_bottleneck(shape: tuple[int, ...], channels: int, stride: int, geometry: Geometry | None = None,
                    activation: str = "relu", image_size: tuple[int, int] | None = None, form: str = SEPARABLE) -> Bottleneck:
    """The bottleneck for a feature.

    shape: of the feature of one image: (C, H, W), (H, W, C), tokens (N, D) or a vector (D,). geometry: a published one;
    None derives it from the stride. activation: "relu", or "none" for features with negative values. image_size: (H, W)
    of the network's input, by which (H, W, C) is told from (C, H, W). form: one of FORMS; a closed one has no geometry.
    """
    if form not in FORMS:
        raise SpicError(f"unknown form of bottlenecks {form!r}, choose from {', '.join(FORMS)}")
    if activation not in ACTIVATIONS:
        raise SpicError(f"unknown activation {activation!r}, choose from {', '.join(ACTIVATIONS)}")
    if not 0 < channels <= MAX_CHANNELS:
        raise SpicError(f"{channels} channels: a bottleneck has 1 to {MAX_CHANNELS}")
    planes = Planes(tuple(shape), is_channels_last(tuple(shape), image_size))
    geometry = _geometry(shape, stride, geometry)
    if form in CLOSED:
        return Bottleneck(LinearEncoder(planes, channels, stride, form == RECTIFIED),
                          LinearDecoder(planes, channels, stride, activation))
    return Bottleneck(Encoder(planes, channels, stride, geometry, form),
                      Decoder(planes, channels, stride, geometry, activation, form))


def _geometry(shape: tuple[int, ...], stride: int, geometry: Geometry | None) -> Geometry:
    if not 1 <= len(shape) <= 3:
        raise SpicError(f"no bottleneck is defined for a feature of shape {tuple(shape)}: it must be (C, H, W), (H, W, C), "
                        "(tokens, D) or (D,)")
    if len(shape) < 3 and stride != 1:
        raise SpicError(f"stride {stride}: a feature of shape {tuple(shape)} has no rows and columns; use stride 1")
    if len(shape) < 3:
        return _TOKENS
    geometry = geometry or derived(stride)
    if stride not in geometry.decoder:
        raise SpicError(f"stride {stride} is not defined for the published geometry; there are: "
                        f"{', '.join(map(str, geometry.decoder))}")
    return geometry


def is_channels_last(shape: tuple[int, ...], image_size: tuple[int, int] | None) -> bool:
    """Whether (a, b, c) is (H, W, C): if a and b, not b and c, are the image's sides divided by one number."""
    if len(shape) != 3 or image_size is None:
        return False
    return not _scaled(shape[1:], image_size) and _scaled(shape[:2], image_size)


def _scaled(sides: tuple[int, int], image_size: tuple[int, int]) -> bool:
    ratio = image_size[0] / sides[0]
    return abs(image_size[1] / ratio - sides[1]) <= 1 and ratio >= 1


def last_activation(features: Tensor) -> str:
    """The last activation that a decoder needs to give such features."""
    return "none" if features.numel() and torch.aminmax(features)[0] < 0 else "relu"
