"""The rate estimator as the CVPR paper's text has it: p(y|z) a Gaussian of mean 0, ReLU between the layers.

    feature -> 3x3, ReLU -> 3x3, ReLU -> hyper-latent, rated by a density
    hyper-latent -> 3x3 transposed, ReLU -> 3x3 transposed -> scale of a Gaussian

The published checkpoints hold another structure (depthwise and 1x1 layers, BatchNorm, no ReLU: ``Hyperprior`` of
spic.training.rate). The text names two convolutional layers with ReLU and a decoder that mirrors them; kernels of 3 and
the number of hyper-channels are ours. Features are not negative, so the left half of the Gaussian is folded onto the right.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F
from torch.special import ndtr

LEAST_SCALE = 0.11  # in steps, as in Ballé et al. 2018: below it all the mass lies in one symbol
Noise = Callable[[Tensor, bool], Tensor]
Bits = Callable[[Tensor], Tensor]


class GaussianHyperprior(nn.Module):
    """density: rates the hyper-latent of ``hyper`` channels. noisy, bits: as every estimator stands for symbols, and counts."""

    def __init__(self, density: nn.Module, noisy: Noise, bits: Bits, hyper: int, channels: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
                                     nn.Conv2d(channels, hyper, 3, padding=1), nn.ReLU())
        self.decoder = nn.Sequential(nn.ConvTranspose2d(hyper, channels, 3, padding=1), nn.ReLU(),
                                     nn.ConvTranspose2d(channels, channels, 3, padding=1))
        self.density, self.noisy, self.bits = density, noisy, bits

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] in steps -> bits per image, [B]."""
        latent = self.noisy(self.encoder(x), self.training)
        scale = F.softplus(self.decoder(latent)) + LEAST_SCALE
        return self.bits(self.density(latent)) + self.bits(folded_gaussian(self.noisy(x, self.training), scale))


def folded_gaussian(x: Tensor, scale: Tensor) -> Tensor:
    """Mass of [x - 1/2, x + 1/2] under a Gaussian of mean 0 folded at 0; left of 0, that of 0, so that there is no jump.

    By the complement, whose digits do not vanish far from 0.
    """
    size = x.clamp_min(0)
    low = (size - 0.5).clamp_min(0)
    return 2 * (ndtr(-low / scale) - ndtr(-(size + 0.5) / scale))

