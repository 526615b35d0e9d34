"""Plain compression of features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picture_cases import each_of
from spic.rivals import features
from spic.rivals.features import FEATURE_CODECS
from spic.errors import SpicError, StreamError


def sparse_feature(channels, height, width, seed=0):
    return np.maximum(np.random.default_rng(seed).normal(-0.5, 1, (channels, height, width)), 0).astype(np.float32)


@pytest.mark.parametrize("name", each_of(("zlib", "zstd")))
@given(shape=st.tuples(*[st.integers(1, 9)] * 3), bits=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rounded_features_are_off_by_half_a_level_at_most(name, shape, bits, seed):
    feature, codec = sparse_feature(*shape, seed), FEATURE_CODECS[name]
    received = codec.decode(codec.encode(feature, bits))
    level = (feature.max() - feature.min()) / (2**bits - 1)
    assert received.shape == feature.shape and received.dtype == np.float32
    assert np.abs(received - feature).max() <= level / 2 + 1e-5


@pytest.mark.parametrize("name", each_of(("jpeg-tiles", "webp-tiles", "hevc-tiles")))
@pytest.mark.parametrize("shape", [(10, 7, 7), (1, 1, 1), (6, 3, 11)])
def test_tiled_features_come_back_in_shape(name, shape):
    feature, codec = sparse_feature(*shape), FEATURE_CODECS[name]
    data = codec.encode(feature, codec.sweep[-1])
    assert codec.decode(data).shape == shape and sum(codec.parts(data)) == len(data)
    assert np.abs(codec.decode(data) - feature).mean() < 0.5 * feature.std() + 1e-6


@given(st.tuples(*[st.integers(1, 12)] * 3))
def test_untile_undoes_tile(shape):
    levels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(features.untile(features.tile(levels), shape), levels)


def test_a_feature_without_numbers_is_refused():
    for wrong in (np.full((1, 2, 2), np.nan, np.float32), np.zeros((2, 2), np.float32)):
        with pytest.raises(SpicError, match="finite"):
            FEATURE_CODECS["zlib"].encode(wrong, 8)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_foreign_feature_bytes_raise_the_stream_error(data):
    with pytest.raises(StreamError):
        FEATURE_CODECS["zlib"].decode(data)
