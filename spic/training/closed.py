"""Bottlenecks without training: the best linear ones for what the rest of a network makes of a feature.

Two second moments are taken over pictures that need no labels: of the feature's frequencies x (their covariance S), and of
the gradients of the answer with respect to them (M = J'J, how much of a change the logits feel). In the coordinates
z = M^(1/2) x an error counts alike in all directions, so the principal directions of z are coded: y = V' z. What is not
sent is guessed from what is: x = S M^(1/2) V L^-1 y, with L the variances of y (linear least squares). At each frequency y
is scaled so that a change by 1 moves the logits by 1 (Euclidean, the classes' mean taken off): one step suits all.

Behind the last layer but one this is the projection on the singular directions of the layer's weights. There the form
"rectified" does with far less, since of a thousand logits few say anything: each logit is a direction of its own (their mean
taken off), and only what rises further above its average than a threshold is sent; the rest are taken for their averages.

Source of the method: transform coding with a weighted error (Gersho and Gray, Vector Quantization and Signal Compression,
1992, ch. 8).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from spic.bottleneck import LINEAR, Bottleneck, Frequencies, Planes, is_channels_last, make_bottleneck
from spic.errors import SpicError
from spic.networks.cut import answers
from spic.training.features import FeatureSet
from spic.training.jobs import default_stride

BATCH = 64
PICTURES, PROBES = 256, 8
"""Derivatives are taken for so many pictures, of so many random combinations of the logits each."""
MOST_NUMBERS = 1 << 28  # of derivatives, kept in memory
ROUNDING = 1e-4  # of the largest logit: a smaller difference is none
RIDGE = 1e-4
SENT = 32  # logits of a picture, on average, by the form rectified
LEAST_SCALE = 1e-3  # of the largest: what the logits do not feel at all is coded as 0 whatever its scale
LEAST_VARIANCE = 1e-7  # of the largest: directions below it carry nothing


@dataclass(frozen=True)
class Directions:
    """What a closed form is cut out of: all directions, the most important first.

    form: of the bottleneck. mean: [C, H, W] of the feature. encoder: [K, C]. decoder: [C, K]. scale, offset: [K, h, w].
    """

    form: str
    planes: Planes
    stride: int
    mean: Tensor
    encoder: Tensor
    decoder: Tensor
    scale: Tensor
    offset: Tensor


def find_directions(data: FeatureSet, back: fx.GraphModule, form: str = LINEAR, stride: int | None = None, seed: int = 0
                    ) -> Directions:
    """The directions of a feature for the rest of its network.

    data: features of whole pictures, float32. back: as ``spic.networks.cut`` gives it. stride: how many times fewer
    frequencies than cells are kept along a side; None: one alone where the rest does nothing but take the mean of each
    map, else what suits the feature. SpicError: the form does not suit what lies behind.
    """
    planes = Planes(data.shape, is_channels_last(data.shape, data.image_size))
    back = answers(back.eval().requires_grad_(False))
    stride = stride or (max(planes.plane[1:]) if _takes_means(back, data, planes) else default_stride(data.shape))
    frequencies = Frequencies(planes, stride)
    affine = _is_affine(back, data)
    slopes = _slopes(back, data, planes, frequencies, seed, affine)
    mean = (sum(planes.open(part.double()).sum(0) for part in data.features.split(BATCH)) / len(data)).float()
    lowest = frequencies(mean[None])[0]
    if form == LINEAR:
        encoder, decoder, scale = _principal(data, planes, frequencies, mean, slopes)
        offset = torch.einsum("kc,chw->khw", encoder, lowest) * scale
    elif affine and lowest[0].numel() == 1:
        encoder = slopes[:, :, 0, 0] / math.sqrt(len(slopes))
        decoder, scale = torch.linalg.pinv(encoder.double(), rtol=ROUNDING).float(), torch.ones(len(slopes), 1, 1)
        offset = (_threshold(back, data, planes.close(mean[None])) + encoder @ lowest[:, 0, 0])[:, None, None]
    else:
        raise SpicError(f"the form {form} codes the network's answers, and behind this cut more follows than one linear layer; "
                        f"use the form {LINEAR}, or a later cut")
    return Directions(form, planes, stride, mean, encoder, decoder, scale, offset)


def closed_form(directions: Directions, channels: int, activation: str) -> Bottleneck:
    """The bottleneck of the first ``channels`` directions, in evaluation mode."""
    planes, scale = directions.planes, directions.scale[:channels]
    bottleneck = make_bottleneck(planes.shape, channels, directions.stride, None, activation, form=directions.form)
    encoder, decoder = bottleneck.encoder, bottleneck.decoder
    encoder.planes = decoder.planes = planes
    with torch.no_grad():
        encoder.directions.copy_(directions.encoder[:channels])
        encoder.scale.copy_(scale)
        encoder.offset.copy_(directions.offset[:channels])
        decoder.directions.copy_(directions.decoder[:, :channels])
        decoder.gain.copy_(1 / scale)
        decoder.mean.copy_(directions.mean)
    return bottleneck.eval()


def _principal(data: FeatureSet, planes: Planes, frequencies: Frequencies, mean: Tensor, slopes: Tensor
               ) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder [C, C], decoder [C, C] and scale [C, h, w] of the form linear."""
    felt = slopes.double().pow(2).sum(1).mean(0)  # [h, w]
    root = _root(torch.einsum("nchw,ndhw->cd", slopes, slopes).double() / len(slopes) / felt.numel())
    covariance = _covariance(data, planes, frequencies, mean, (felt / felt.sum()).float())
    variances, turned = torch.linalg.eigh(root @ covariance @ root)
    variances, turned = variances.flip(0), turned.flip(1)
    decoder = covariance @ root @ turned * torch.where(variances > LEAST_VARIANCE * variances[0], 1 / variances, 0)
    scale = torch.einsum("ck,nchw->nkhw", decoder.float(), slopes).pow(2).mean(0).sqrt()
    return (turned.T @ root).float(), decoder.float(), scale.clamp_min(LEAST_SCALE * scale.max())


@torch.no_grad()
def _logits(back: fx.GraphModule, feature: Tensor) -> Tensor:
    """[B, K], the classes' mean taken off."""
    logits = back(feature.float())[0]
    return logits - logits.mean(1, keepdim=True)


def _threshold(back: fx.GraphModule, data: FeatureSet, mean: Tensor) -> float:
    """Further than that rise ``SENT`` logits of a picture above those of the mean feature; half of them where there are few."""
    logits = torch.cat([_logits(back, part) for part in data.features[: BATCH * 32].split(BATCH)]) - _logits(back, mean)
    count = round(len(logits) * min(SENT, logits.shape[1] / 2))
    return float(logits.flatten().topk(count).values[-1])


def _takes_means(back: fx.GraphModule, data: FeatureSet, planes: Planes) -> bool:
    """Whether the rest of the network looks at nothing but the mean of each channel's map."""
    some = data.features[:4].float()
    maps = planes.open(some)
    flat = planes.close(maps.mean((2, 3), keepdim=True).expand_as(maps)) if len(planes.shape) == 3 else some
    with torch.no_grad():
        there, here = (back(feature.contiguous())[0] for feature in (some, flat))
    return maps[0, 0].numel() > 1 and _equal(there, here)


def _equal(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= ROUNDING * first.abs().max())


def _is_affine(back: fx.GraphModule, data: FeatureSet) -> bool:
    """Whether the logits are one linear function of the feature, seen at three points of a line."""
    first, second = data.features[:1].float(), data.features[1:2].float()
    with torch.no_grad():
        low, middle, high = (back(first + (second - first) * share)[0] for share in (0, 0.5, 1))
    return middle.ndim == 2 and _equal(2 * middle, low + high)


def _slopes(back: fx.GraphModule, data: FeatureSet, planes: Planes, frequencies: Frequencies, seed: int, affine: bool) -> Tensor:
    """Rows g [N, C, h, w] with E g g' = J'J, J the derivatives of the logits (their mean taken off) by the frequencies.

    An affine rest has the same ones for all pictures, a row for each logit; else random signs are put on the logits.
    """
    room = max(1, MOST_NUMBERS // (PROBES * planes.plane[0] * math.prod(frequencies.shape)))
    count = 1 if affine else min(PICTURES, room, len(data))
    chosen = torch.arange(count) * len(data) // count
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for some in chosen.split(BATCH // PROBES):
        feature = data.laid_out(data.features[some].float()).clone().requires_grad_()
        logits = back(feature)[0]
        for probe in _probes(logits, affine, generator):
            (slope,) = torch.autograd.grad(logits, feature, probe - probe.mean(1, keepdim=True), retain_graph=True)
            rows.append(frequencies(planes.open(slope)))
    return torch.cat(rows)


def _probes(logits: Tensor, affine: bool, generator: torch.Generator) -> Iterator[Tensor]:
    """What is put on the logits [B, K] or [B, K, h, w]: each one alone, times the root of their number, or random signs."""
    if affine:
        yield from (torch.eye(logits.shape[1]) * math.sqrt(logits.shape[1])).split(1)
        return
    pixels = logits[0, 0].numel()
    for _ in range(PROBES):
        yield (torch.randint(0, 2, logits.shape, generator=generator) * 2.0 - 1) / math.sqrt(pixels)


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a second moment; what was felt by chance only gets a little of what is felt on average."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * (values.clamp_min(0) + RIDGE * values.mean().clamp_min(0)).sqrt() @ vectors.T


def _covariance(data: FeatureSet, planes: Planes, frequencies: Frequencies, mean: Tensor, weight: Tensor) -> Tensor:
    """float64 [C, C], the mean over all frequencies by weight [h, w]."""
    total = torch.zeros(planes.plane[0], planes.plane[0], dtype=torch.float64)
    for part in data.features.split(BATCH):
        x = frequencies(planes.open(part.float()) - mean) * weight.sqrt()
        rows = x.permute(1, 0, 2, 3).flatten(1)
        total += (rows @ rows.T).double()
    return total / len(data)
