"""Quantisation: the published formula, integers only on the wire."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from spic.quantize import dequantize, quantize


def test_rounds_half_to_even_as_published():
    assert quantize(torch.tensor([0.0, 1.0, 2.9, 3.0, 5.0, 7.0]), 2.0).tolist() == [0, 0, 1, 2, 2, 4]


@given(st.floats(0.01, 100), st.lists(st.floats(0, 1e4, width=32), min_size=1))
def test_round_trip_equals_the_published_float_formula(step, values):
    feature = torch.tensor(values, dtype=torch.float32)
    published = step * torch.round(feature / step)
    assert torch.equal(dequantize(quantize(feature, step), step), published)
    assert quantize(feature, step).dtype == torch.int32
