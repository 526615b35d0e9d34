"""Pictures of every kind become 8-bit RGB."""

import numpy as np
import pytest
from PIL import Image

from picture_cases import photo, psnr
from spic.datasets.pictures import to_rgb8
from spic.errors import SpicError


def test_every_kind_of_picture_becomes_rgb8():
    rgb = Image.fromarray(photo(9, 7))
    for mode in ("L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr"):
        made = to_rgb8(rgb.convert(mode))
        assert made.shape == (9, 7, 3) and made.dtype == np.uint8
    assert np.array_equal(to_rgb8(rgb), photo(9, 7))
    assert psnr(to_rgb8(rgb.convert("CMYK")), photo(9, 7)) > 30


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None]
    assert np.array_equal(to_rgb8(ramp)[0, :, 0], np.arange(256))
    assert np.array_equal(to_rgb8(Image.fromarray(ramp))[0, :, 1], np.arange(256))


def test_alpha_is_dropped_as_the_network_loader_does():
    image = np.dstack([photo(5, 5), np.zeros((5, 5), np.uint8)])
    assert np.array_equal(to_rgb8(image), photo(5, 5)) and np.array_equal(to_rgb8(Image.fromarray(image)), photo(5, 5))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4), np.uint8),
                                   np.zeros(4, np.uint8), Image.new("F", (4, 4))])
def test_what_has_no_known_range_or_shape_is_refused(wrong):
    with pytest.raises(SpicError):
        to_rgb8(wrong)
