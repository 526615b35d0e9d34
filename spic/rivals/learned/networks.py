"""The networks of the learned rivals, made of compressai's layers, learned densities and entropy coder.

All keep compressai's contract: ``forward`` gives a dict with ``likelihoods``, ``compress`` gives ``strings`` and
``shape``, ``decompress(strings, shape)`` the received tensor; and add what a codec of single pictures needs.
"""

from __future__ import annotations

import math

import compressai
import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel, FactorizedPrior, ScaleHyperprior
from torch import Tensor, nn
from torch.nn import functional as F

from spic.datasets.images import normalise
from spic.datasets.pictures import SCALED
from spic.errors import SpicError

VERSION = compressai.__version__
SIDE = 128  # of the picture at which the size of a student's feature is looked up


class _FullPrecision:
    """Densities stay in float32 where convolutions run in bfloat16: their likelihoods are small differences."""

    def forward(self, *tensors: Tensor, **options):
        with torch.autocast(tensors[0].device.type, enabled=False):
            return super().forward(*(tensor.float() for tensor in tensors), **options)


class Density(_FullPrecision, EntropyBottleneck):
    """A density per channel, learned (Ballé et al. 2018, appendix 6.1)."""


class Gaussian(_FullPrecision, GaussianConditional):
    """Zero-mean Gaussians, whose scales come from the hyperprior."""


class _Picture:
    """A picture codec: pictures in 0..1, padded by repeating the edge to whole latent pixels."""

    strings = 1
    output = "x_hat"

    @staticmethod
    def architecture(front: nn.Module | None, hidden: int, latent: int) -> dict[str, int]:
        """Keywords of the constructor."""
        return {"N": hidden, "M": latent}

    def scaled(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] → 0..1."""
        return images.float().div_(255).contiguous(memory_format=torch.channels_last)

    def inputs(self, pixels: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] → [1, 3, H', W'], both sides multiples of the downsampling."""
        image = self.scaled(torch.tensor(pixels).permute(2, 0, 1)[None])
        rows, columns = (-side % self.downsampling_factor for side in image.shape[-2:])
        return F.pad(image, (0, columns, 0, rows), mode="replicate")

    def latent_shape(self, height: int, width: int) -> tuple[int, int]:
        return math.ceil(height / self.downsampling_factor), math.ceil(width / self.downsampling_factor)

    def received(self, decoded: dict[str, Tensor], height: int, width: int) -> np.ndarray:
        """uint8 [H, W, 3], rounded as a display or a file would; the padding is cut off."""
        pixels = (decoded["x_hat"][0, :, :height, :width].clamp(0, 1) * 255).round()
        return pixels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()


class Variational(_Picture, FactorizedPrior):
    """The factorized-prior autoencoder of Ballé et al. 2017 and 2018, with generalised divisive normalisation."""

    def __init__(self, N: int, M: int):
        super().__init__(N, M)
        self.entropy_bottleneck = Density(M)

    def edge_modules(self) -> list[nn.Module]:
        return [self.g_a]

    def analysis(self, x: Tensor) -> Tensor:
        return self.g_a(x)


class Hyperprior(_Picture, ScaleHyperprior):
    """The scale hyperprior of Ballé et al. 2018: a second, coarser string holds the spread of the first."""

    strings = 2

    def __init__(self, N: int, M: int):
        super().__init__(N, M)
        self.entropy_bottleneck = Density(N)
        self.gaussian_conditional = Gaussian(None)

    def edge_modules(self) -> list[nn.Module]:
        return [self.g_a, self.h_a, self.h_s]

    def analysis(self, x: Tensor) -> Tensor:
        return self.h_s(self.h_a(self.g_a(x).abs()))


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class Student(CompressionModel):
    """Entropic Student (Matsubara et al., WACV 2022): image → encoder → latent → decoder → feature of the network.

    Unlike the paper's, which replaces ResNet-50 up to layer1: a deeper feature takes a further strided convolution; the
    decoder is as wide as the feature, not twice; and BatchNorm and ReLU stand where the paper has divisive normalisation,
    which in a short training leaves twice the error. Latents have one row and column less than the feature.
    """

    strings = 1
    output = "feature"

    def __init__(self, hidden: int, latent: int, channels: int, halvings: int):
        super().__init__()
        strided = [layer for inputs in [3, *[hidden] * (halvings - 1)] for layer in _unit(inputs, hidden, 5, 2, 2)]
        self.encoder = nn.Sequential(*strided, nn.Conv2d(hidden, latent, 2, bias=False))
        self.entropy_bottleneck = Density(latent)
        self.decoder = nn.Sequential(*_unit(latent, channels, 2, padding=1), *_unit(channels, channels, 2),
                                     nn.Conv2d(channels, channels, 2, padding=1))
        self.halvings = halvings

    @staticmethod
    def architecture(front: nn.Module, hidden: int, latent: int) -> dict[str, int]:
        """Keywords of the constructor for the feature that ``front`` gives of a picture of SIDE."""
        _, channels, height, width = front(torch.zeros(1, 3, SIDE, SIDE)).shape
        halvings = round(math.log2(SIDE / height))
        if height != width or height << halvings != SIDE or not 2 <= halvings <= 5:
            raise SpicError(f"--cut: a feature of {height}x{width} for {SIDE}x{SIDE} pixels cannot be replaced")
        return {"hidden": hidden, "latent": latent, "channels": channels, "halvings": halvings}

    def edge_modules(self) -> list[nn.Module]:
        return [self.encoder]

    def analysis(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def forward(self, x: Tensor) -> dict:
        """Normalised images [B, 3, H, W] → feature; latents are noisy in training, else rounded."""
        y_hat, likelihoods = self.entropy_bottleneck(self.encoder(x))
        return {"feature": self.decoder(y_hat), "likelihoods": {"y": likelihoods}}

    def compress(self, x: Tensor) -> dict:
        y = self.encoder(x)
        return {"strings": [self.entropy_bottleneck.compress(y)], "shape": y.shape[-2:]}

    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        return {"feature": self.decoder(self.entropy_bottleneck.decompress(strings[0], shape))}

    def scaled(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] → what the network itself would take."""
        return normalise(images, rounding=SCALED)

    def inputs(self, pixels: np.ndarray) -> Tensor:
        """uint8 [H, W, 3] → [1, 3, H, W]: convolutions cope with any size."""
        return self.scaled(torch.tensor(pixels).permute(2, 0, 1)[None])

    def latent_shape(self, height: int, width: int) -> tuple[int, int]:
        return math.ceil(height / 2**self.halvings) - 1, math.ceil(width / 2**self.halvings) - 1

    def received(self, decoded: dict[str, Tensor], height: int, width: int) -> np.ndarray:
        """float32 [C, h, w]."""
        return decoded["feature"][0].float().cpu().numpy()


NETWORKS = {"variational": Variational, "hyperprior": Hyperprior, "student": Student}
