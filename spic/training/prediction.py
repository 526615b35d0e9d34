"""Bits predicted against bits coded: is a rate estimator to be believed?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spic.coding import FrequencyTable, make_coder
from spic.quantize import quantize
from spic.training.tables import encoded

CODER = "rans"  # the coder whose bytes come close to what the table says


@torch.inference_mode()
def compare(estimator: nn.Module | None, encoder: nn.Module, features: Tensor, table: FrequencyTable, step: float,
            pixels: int) -> dict[str, float]:
    """Bits per input pixel of the symbols of whole pictures, as three parties see them.

    predicted_bpp: the trained estimator's, rating rounded symbols. entropy_bpp: the cross-entropy of the static table.
    coded_bpp: the payload bytes that rANS makes with that table. features: float32 [N, ...], in front of the encoder.
    pixels: of one picture. The l1 heuristic predicts no bits: expect no agreement. estimator: None where nothing was trained,
    and so nothing is predicted.
    """
    coder = make_coder(CODER, table)
    bits = torch.zeros(3, dtype=torch.float64)
    for feature in encoded(encoder, features):
        symbols = quantize(feature, step).numpy()
        payload = sum(map(len, coder.encode(symbols)))
        # not the symbols: a hyperprior looks at the feature itself, and every estimator rounds by itself
        predicted = estimator.eval()(feature / step).sum().item() if estimator else 0.0
        bits += torch.tensor([predicted, table.cross_entropy(symbols), 8 * payload])
    rates = dict(zip(("predicted_bpp", "entropy_bpp", "coded_bpp"), (bits / (len(features) * pixels)).tolist()))
    return rates if estimator else {name: rate for name, rate in rates.items() if name != "predicted_bpp"}
