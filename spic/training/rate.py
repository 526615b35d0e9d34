"""Rate estimators: how many bits a bottleneck's feature will cost, as something that has a gradient.

All take the feature in units of the step, [B, C, h, w], and give bits per image, [B]. Numbers of any sign, which a linear
bottleneck gives, are taken by those of SIGNED alone. They exist in
training only; what is transmitted is coded with a static frequency table. While training, a symbol is stood for by the
feature plus uniform noise of one step (Balle et al. 2017); in evaluation mode by the rounded feature.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spic.coding import FrequencyTable
from spic.coding.fitting import DISTRIBUTIONS
from spic.errors import SpicError
from spic.parallel import interleave_over_ranks, sum_over_ranks
from spic.training.gaussian import GaussianHyperprior

LEAST_LIKELIHOOD = 1e-9
HYPER_CHANNELS = 8
LEAST_SPREAD = 0.05  # in steps
LEVELS = 512  # symbols a soft table knows; larger ones cost what the last one costs
SOFT = 0.4  # see Table, for signed symbols
LOWEST = -64  # the smallest signed symbol that it knows


def _noisy(x: Tensor, training: bool) -> Tensor:
    return x + torch.rand_like(x) - 0.5 if training else x.round()


def _bits(likelihood: Tensor) -> Tensor:
    """Likelihoods [B, ...] -> bits per image [B]."""
    return -likelihood.clamp_min(LEAST_LIKELIHOOD).log2().flatten(1).sum(1)


class Density(nn.Module):
    """A learned density per channel: a monotone network of four stages gives the cumulative distribution.

    Stage k: x -> x softplus(h) + b, then x + tanh(a) tanh(x); the last one ends in a sigmoid instead.
    """

    def __init__(self, channels: int):
        super().__init__()
        shape = (4, 1, channels, 1, 1)
        self.h = nn.Parameter(torch.full(shape, 0.5))
        self.b = nn.Parameter(torch.zeros(shape).uniform_(-0.5, 0.5))
        self.a = nn.Parameter(torch.zeros((3, *shape[1:])))

    def cumulative(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> probability of a smaller value, as a logit."""
        for h, b, a in zip(self.h[:3], self.b[:3], self.a):
            x = x * F.softplus(h) + b
            x = x + a.tanh() * x.tanh()
        return x * F.softplus(self.h[3]) + self.b[3]

    def forward(self, x: Tensor) -> Tensor:
        """Probability mass of [x - 1/2, x + 1/2]."""
        low, high = self.cumulative(x - 0.5), self.cumulative(x + 0.5)
        sign = -torch.sign(low + high).detach()  # the tail in which a difference of sigmoids keeps its digits
        return (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs()


class Factorized(nn.Module):
    """One learned density per channel (Balle et al. 2017)."""

    def __init__(self, channels: int):
        super().__init__()
        self.density = Density(channels)

    def forward(self, x: Tensor) -> Tensor:
        return _bits(self.density(_noisy(x, self.training)))


class Hyperprior(nn.Module):
    """The structure found in the published checkpoints: a hyper-latent of 8 channels predicts each feature's spread.

        feature -> depthwise 3x3, BN -> 1x1 to 8, BN -> hyper-latent, rated by a Density
        hyper-latent -> 1x1 transposed, BN -> depthwise transposed 3x3, BN -> spread of a Laplacian around 0

    Features are not negative: the left half of the Laplacian is folded onto the right one.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.BatchNorm2d(channels),
            nn.Conv2d(channels, HYPER_CHANNELS, 1), nn.BatchNorm2d(HYPER_CHANNELS))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(HYPER_CHANNELS, channels, 1), nn.BatchNorm2d(channels),
            nn.ConvTranspose2d(channels, channels, 3, padding=1, groups=channels), nn.BatchNorm2d(channels))
        self.density = Density(HYPER_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        latent = _noisy(self.encoder(x), self.training)
        spread = F.softplus(self.decoder(latent)) + LEAST_SPREAD
        return _bits(self.density(latent)) + _bits(folded_laplacian(_noisy(x, self.training), spread))


def folded_laplacian(x: Tensor, spread: Tensor) -> Tensor:
    """Mass of [x - 1/2, x + 1/2] under a Laplacian of scale ``spread`` folded at 0; left of 0, that of 0.

    It has no jump: a gradient through a jump would miss what the step over it costs. Only noise leads to the left of 0.
    """
    size = x.clamp_min(0)
    low = (size - 0.5).clamp_min(0)
    return torch.exp(-low / spread) * -torch.expm1((low - size - 0.5) / spread)


class L1(nn.Module):
    """The heuristic the papers improve on: one bit per step of size. A sparsity term, not an estimate of the rate."""

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().flatten(1).sum(1)


class Table(nn.Module):
    """The static table's own code length, made soft: linear between the lengths of neighbouring symbols.

    The table follows the symbols of the recent batches. ``tables`` is shared (one for all channels), channel, or each (one for
    every number of a picture: ``channels`` is how many there are). ``lowest``: the smallest symbol that it knows, of LEVELS.
    ``soft``: the share of the way from one symbol to the next, around its middle, in which the length changes. Most numbers
    with a sign are small and round to 0: rated softly all the way, they would seem to cost several times what they do.
    A hundredth of a geometric distribution is mixed in, so that symbols not seen yet have a length too.
    """

    MEMORY = 0.98  # of the counts, per batch
    GEOMETRIC = 0.01

    def __init__(self, channels: int, tables: str = "shared", lowest: int = 0, soft: float = 1.0):
        super().__init__()
        self.tables, self.lowest, self.soft = tables, lowest, soft
        levels = -2 * lowest or LEVELS
        self.register_buffer("counts", torch.zeros(1 if tables == "shared" else channels, levels))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)[..., None, None] if self.tables == "each" else x
        rows = (x.transpose(0, 1).reshape(len(self.counts), -1) - self.lowest).clamp(0, self.counts.shape[1] - 2)
        known = rows.detach().nan_to_num()  # no index; the distortion says that something is wrong
        if self.training:
            self._follow(known.round().long())
        lengths = self.lengths()
        low = (known.floor() if self.training else known.round()).long()
        here = lengths.gather(1, low)
        if self.training:
            way = rows - low if self.soft == 1 else ((rows - low - 0.5) / self.soft + 0.5).clamp(0, 1)
            here = here + way * (lengths.gather(1, low + 1) - here)
        return here.reshape(x.shape[1], len(x), -1).sum((0, 2))

    def _follow(self, symbols: Tensor) -> None:
        seen = torch.zeros_like(self.counts).scatter_add_(1, symbols, torch.ones_like(symbols, dtype=torch.float32))
        seen = sum_over_ranks(seen).to(seen.device)
        self.counts.mul_(self.MEMORY if self.counts.any() else 0).add_(seen)

    def lengths(self) -> Tensor:
        """Bits of each symbol, [distributions, levels]."""
        share = self.counts / self.counts.sum(1, keepdim=True).clamp_min(1)
        steps = (torch.arange(share.shape[1], device=share.device) + self.lowest).abs()
        mean = (share @ steps.to(share.dtype)).clamp_min(0.05)[:, None]
        tail = (1 / (1 + mean)).log() + steps * (mean / (1 + mean)).log()
        return -torch.log2(((1 - self.GEOMETRIC) * share + self.GEOMETRIC * tail.exp()).clamp_min(1e-12))


class Contextual(Table):
    """The code length of a context table, made soft in the same way: what ``--tables context`` codes with.

    The contexts (neighbours, weights, which distribution a sum selects) are fitted anew to the symbols of the last pictures after
    1, 2, 4 ... batches and after every REFIT; in between, the counts of the distributions follow as those of Table do. The
    gradient is that of each symbol's own length in the distribution that the rounded symbols before it select: what it does to the
    selection for others has none.
    """

    REFIT = 64
    RECENT = 1024  # pictures that contexts are fitted to
    MOST_RECENT = 1 << 20  # their symbols, at most, but for those of one batch

    def __init__(self, channels: int):
        super().__init__(DISTRIBUTIONS, "context")
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.channels = channels
        self.contexts: FrequencyTable | None = None
        self.recent = np.zeros((0, channels, 0, 0), np.int16)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(0, LEVELS - 2)
        known = x.detach().nan_to_num()
        symbols = known.round().int().cpu().numpy()
        if self.training:
            self._follow(symbols)
        rows, lengths = self._selected(symbols).to(x.device), self.lengths()
        low = (known.floor() if self.training else known.round()).long()
        here = lengths[rows, low]
        if self.training:
            here = here + (x - low) * (lengths[rows, low + 1] - here)
        return here.flatten(1).sum(1)

    def _follow(self, symbols: np.ndarray) -> None:
        whole = np.stack(interleave_over_ranks(list(symbols.astype(np.int16))))
        room = max(len(whole), min(self.RECENT, self.MOST_RECENT // max(whole[0].size, 1)))
        before = self.recent if self.recent.shape[1:] == whole.shape[1:] else whole[:0]
        self.recent = np.concatenate([before, whole])[-room:]
        self.batches += 1
        done = int(self.batches)
        if self.contexts is None or done % self.REFIT == 0 or done & (done - 1) == 0:
            self.contexts = FrequencyTable.from_symbols(self.recent, 1.0, "context")
            seen, keep = self.contexts.dense_counts(), 0.0
        else:
            cells = self._selected(whole).numpy() * LEVELS + whole
            seen, keep = np.bincount(cells.ravel(), minlength=self.counts.numel()).reshape(self.counts.shape), self.MEMORY
        self.counts.mul_(keep)
        self.counts[:len(seen), :seen.shape[1]] += torch.from_numpy(seen).to(self.counts)

    def _selected(self, symbols: np.ndarray) -> Tensor:
        """The distribution of each symbol [B, C, h, w], by those before it; before the first batch there is but one."""
        if self.contexts is None:
            return torch.zeros(symbols.shape, dtype=torch.long)
        matrix = np.ascontiguousarray(symbols.reshape(len(symbols), -1), np.int32)
        found = self.contexts.selector(symbols.shape[1:]).contexts(matrix)
        return torch.from_numpy(np.broadcast_to(found, matrix.shape).astype(np.int64)).view(symbols.shape)

    def get_extra_state(self) -> dict:
        """What a resumed training needs beside the counts: the contexts, as the text of a table, and the last pictures."""
        return {"contexts": self.contexts.to_bytes().decode() if self.contexts else "", "recent": torch.from_numpy(self.recent)}

    def set_extra_state(self, state: dict) -> None:
        contexts, recent = (state[name] for name in ("contexts", "recent"))
        table = FrequencyTable.from_bytes(contexts.encode(), "contexts") if contexts else None
        if table and (table.contexts is None or table.signed or len(table.distributions) > DISTRIBUTIONS or table.width > LEVELS):
            raise ValueError("contexts of another kind")
        if recent.dtype != torch.int16 or recent.ndim != 4 or recent.shape[1] != self.channels or \
                recent.numel() and not 0 <= recent.min() <= recent.max() < LEVELS:
            raise ValueError("symbols of another kind")
        self.contexts, self.recent = table, recent.numpy().copy()


ESTIMATORS = {"hyperprior": Hyperprior, "factorized": Factorized, "l1": L1, "table": Table,
              "gaussian": lambda channels: GaussianHyperprior(Density(HYPER_CHANNELS), _noisy, _bits, HYPER_CHANNELS, channels),
              "context": Contextual}
SIGNED = ("factorized", "l1", "table")


def make_estimator(name: str, encoder: nn.Module) -> nn.Module:
    """The estimator for what an encoder gives. Each number of a linear bottleneck has a table of its own."""
    if not encoder.signed:
        return ESTIMATORS[name](encoder.channels)
    if name not in SIGNED:
        raise SpicError(f"--rate {name}: rates numbers without a sign; for a linear bottleneck choose from {', '.join(SIGNED)}")
    return Table(math.prod(encoder.shape), "each", LOWEST, SOFT) if name == "table" else ESTIMATORS[name](encoder.channels)
