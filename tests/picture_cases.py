"""What tests of codecs share: a picture, its fidelity, and the codecs of this build."""

import math

import numpy as np

from spic.rivals.codecs import find_codecs
from spic.rivals.features import FEATURE_CODECS

PRESENT = [codec.name for codec in find_codecs()[0]]
FEATURE_PRESENT = [codec.name for codec in find_codecs(among=FEATURE_CODECS)[0]]


def photo(height, width, seed=0):
    """Something a codec finds picture-like: smooth colour waves and a little noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a + p) * np.cos(columns / b) for a, b, p in rng.uniform(8, 40, (3, 3))]
    return np.clip(128 + 80 * np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def psnr(first, second):
    return 10 * math.log10(255**2 / max(1e-9, np.mean((first.astype(float) - second) ** 2)))
