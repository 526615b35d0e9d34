"""What tests of codecs share: a picture, its fidelity, and the codecs of this build."""

import math

import numpy as np
import pytest

from spic.rivals.codecs import find_codecs
from spic.rivals.features import FEATURE_CODECS

MISSING = find_codecs()[1] | find_codecs(among=FEATURE_CODECS)[1]
"""Codec -> why it does not work here, and what to install."""


def each_of(names):
    """Parameters of a test, one per codec; those that do not work here are skipped with the reason."""
    return [pytest.param(name, marks=needs(name)) for name in names]


def needs(name):
    """Skips a test where the codec does not work."""
    return pytest.mark.skipif(name in MISSING, reason=MISSING.get(name, ""))


def photo(height, width, seed=0):
    """Something a codec finds picture-like: smooth colour waves and a little noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a + p) * np.cos(columns / b) for a, b, p in rng.uniform(8, 40, (3, 3))]
    return np.clip(128 + 80 * np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def psnr(first, second):
    return 10 * math.log10(255**2 / max(1e-9, np.mean((first.astype(float) - second) ** 2)))
