"""Codecs on the picture: what they give back, their settings, and where the bytes go."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from picture_cases import each_of, needs, photo, psnr
from spic.rivals import anatomy, codecs, video
from spic.rivals.codecs import CODECS, OTHERWISE, PLAIN, REDUCED, family, find_codecs
from spic.rivals.features import FEATURE_CODECS
from spic.errors import SpicError, StreamError


@pytest.mark.parametrize("name", each_of({**PLAIN, **OTHERWISE}))
@pytest.mark.parametrize("height, width", [(64, 64), (63, 45), (1, 1), (7, 130)])
def test_a_picture_of_any_size_comes_back_in_that_size(name, height, width):
    codec, image = CODECS[name], photo(height, width)
    data = codec.encode(image, codec.sweep[-1])
    received = codec.decode(data)
    assert received.shape == image.shape and received.dtype == np.uint8
    assert psnr(image, received) > (25 if image.size > 3 else 20)  # of one pixel OpenJPEG keeps whole bit planes
    assert sum(codec.parts(data)) == len(data)


@pytest.mark.parametrize("name", each_of(CODECS))
def test_the_sweep_rises_in_rate_and_fidelity(name):
    codec, image = CODECS[name], photo(96, 96)
    coded = [codec.encode(image, quality) for quality in (codec.sweep[0], codec.sweep[-1])]
    sizes = [codec.parts(data).payload for data in coded]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert psnr(image, codec.decode(coded[0])) < psnr(image, codec.decode(coded[-1]))


@pytest.mark.parametrize("name", each_of(CODECS))
def test_settings_and_bytes_do_not_change_from_call_to_call(name):
    codec, image = CODECS[name], photo(48, 48)
    assert codec.encode(image, codec.sweep[2]) == codec.encode(image, codec.sweep[2])


@pytest.mark.parametrize("codec", [*CODECS.values(), *FEATURE_CODECS.values()], ids=lambda codec: codec.name)
def test_a_quality_out_of_range_is_refused(codec):
    array = photo(16, 16) if codec.name in CODECS else np.ones((2, 3, 3), np.float32)
    low, high = codec.quality_range
    for quality in (low - 1, high + 1, 1.5, True, "30"):
        with pytest.raises(SpicError, match=f"{codec.name}: .* whole number from {low} to {high}"):
            codec.encode(array, quality)
    assert all(low <= quality <= high for quality in codec.sweep)


@pytest.mark.parametrize("name", each_of(CODECS))
@pytest.mark.parametrize("array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)),
                                   np.zeros((0, 8, 3), np.uint8), [[1]]])
def test_what_is_no_rgb_picture_is_refused(name, array):
    with pytest.raises(SpicError):
        CODECS[name].encode(array, CODECS[name].sweep[0])


@pytest.mark.parametrize("name", each_of(REDUCED))
def test_a_reduced_picture_comes_back_in_its_size_at_fewer_bytes(name):
    codec, plain = REDUCED[name], PLAIN[family(name)]
    rows, columns = np.mgrid[:63, :90]
    image = np.stack([rows * 3, columns * 2, rows + columns], -1).astype(np.uint8)  # smooth: little is lost by scaling
    data = codec.encode(image, codec.sweep[-1])
    assert codec.decode(data).shape == image.shape and psnr(image, codec.decode(data)) > 30
    assert sum(codec.parts(data)) == len(data) and codec.parts(data).container >= 4
    noisy = photo(96, 96)
    assert len(codec.encode(noisy, codec.sweep[0])) < len(plain.encode(noisy, codec.sweep[0]))


def test_a_reduced_picture_of_no_size_is_refused():
    codec = CODECS["jpeg@50"]
    data = codec.encode(photo(20, 30), 50)
    for broken in (b"", data[:3], b"\0\0" + data[2:], b"\xff\xff\xff\xff" + data[4:]):
        with pytest.raises(StreamError, match="jpeg@50: not a coded picture"):
            codec.decode(broken)


def test_variants_belong_to_the_curve_of_their_codec():
    assert {name: family(name) for name in ("hevc", "hevc-qp", "hevc@75", "avif-444", "jpeg2000@50", "jpeg-tiles")} == {
        "hevc": "hevc", "hevc-qp": "hevc", "hevc@75": "hevc", "avif-444": "avif", "jpeg2000@50": "jpeg2000",
        "jpeg-tiles": "jpeg-tiles"}
    assert {family(name) for name in CODECS} == set(PLAIN)


@needs("hevc")
def test_full_chroma_keeps_what_half_chroma_blurs():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2, 0], image[:, 1::2, 2] = 200, 200  # red and blue columns
    half, full = (psnr(image, CODECS[name].decode(CODECS[name].encode(image, 20))) for name in ("hevc", "hevc-444"))
    assert full > half + 10


def test_an_unknown_codec_lists_the_known_ones():
    with pytest.raises(SpicError, match="unknown codec 'gif': choose from jpeg, webp"):
        find_codecs(["gif"])


def test_a_codec_missing_from_the_build_is_named_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setattr(codecs.features, "check", lambda feature: feature != "avif")
    present, missing = find_codecs(["jpeg", "avif"])
    assert [codec.name for codec in present] == ["jpeg"]
    assert "built without avif" in missing["avif"]


def test_without_pyav_the_video_codecs_are_missing(monkeypatch):
    def absent():
        raise SpicError("PyAV is not installed: pip install av")

    monkeypatch.setattr(video, "_av", absent)
    assert set(find_codecs(["jpeg", "hevc", "av1"])[1]) == {"hevc", "av1"}


def test_jpeg_headers_do_not_grow_with_the_picture_and_payload_does():
    small, large = (CODECS["jpeg"].parts(CODECS["jpeg"].encode(photo(side, side), 50)) for side in (32, 128))
    assert small[1:] == large[1:] and small.payload < large.payload
    # SOI, EOI and an 18-byte APP0; two tables of 69 bytes, 19 of frame header, 14 of scan header
    assert (small.header, small.container) == (2 * 69 + 19 + 14, 2 + 2 + 18)


def test_jpeg_payload_is_the_huffman_tables_and_the_scan():
    data = CODECS["jpeg"].encode(photo(40, 40), 50)
    scan = data.index(b"\xff\xda")
    start = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
    tables, position = 0, 2
    while position < scan:
        length = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        tables += length * (data[position + 1] == 0xC4)
        position += length
    assert anatomy.jpeg_parts(data).payload == tables + len(data) - 2 - start


def test_progressive_jpeg_and_comments_are_counted_too():
    buffer = io.BytesIO()
    Image.fromarray(photo(40, 40)).save(buffer, "JPEG", progressive=True, comment=b"x" * 100)
    parts = anatomy.jpeg_parts(buffer.getvalue())
    assert sum(parts) == len(buffer.getvalue()) and parts.container == 22 + 104 and min(parts) > 0


@needs("jpeg2000")
def test_jpeg2000_says_colour_transform_and_9_7_wavelet():
    data = CODECS["jpeg2000"].encode(photo(64, 64), 30)
    coding = data.index(b"\xff\x52")  # COD marker: ISO/IEC 15444-1, tables A.12 to A.20
    layers, colour, wavelet = data[coding + 6 : coding + 8], data[coding + 8], data[coding + 13]
    assert (int.from_bytes(layers, "big"), colour, wavelet) == (1, 1, 0)


@needs("hevc")
def test_hevc_payload_is_the_slice_unit():
    data = CODECS["hevc"].encode(photo(64, 64), 30)
    units = data[2:].replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")[1:]
    kinds = [unit[0] >> 1 & 63 for unit in units]
    assert kinds[:3] == [32, 33, 34] and len(kinds) == 4 and kinds[3] in (16, 17, 18, 19, 20, 21)
    assert CODECS["hevc"].parts(data).payload == len(units[3]) - 2


@needs("hevc")
def test_odd_sizes_cost_no_pixels_and_two_bytes_tell_them():
    data = CODECS["hevc"].encode(photo(33, 50), 30)
    assert tuple(data[:2]) == (0, 1)
    assert CODECS["hevc"].parts(data).container == 2


@pytest.mark.parametrize("dissect", [anatomy.jpeg_parts, anatomy.webp_parts, anatomy.jpeg2000_parts, anatomy.avif_parts,
                                     anatomy.av1_parts, anatomy.hevc_parts])
@given(data=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_foreign_bytes_are_counted_or_refused_but_never_hang(dissect, data):
    try:
        dissect(data)
    except (SpicError, IndexError):
        pass


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_planes_keep_luma_and_smooth_chroma(height, width):
    image = np.full((height, width, 3), (200, 40, 90), np.uint8)
    padded, (rows, columns) = video.pad_even(image)
    assert padded.shape[0] % 2 == padded.shape[1] % 2 == 0 and min(padded.shape[:2]) >= video.LEAST_SIDE
    assert padded.shape[:2] == (height + rows, width + columns)
    assert np.abs(video.planes_to_rgb(video.rgb_to_planes(padded)).astype(int) - padded).max() <= 2


def test_colours_pass_through_the_planes_without_a_bias():
    image = np.kron(np.random.default_rng(0).integers(0, 256, (32, 32, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    received = video.planes_to_rgb(video.rgb_to_planes(image)).astype(float)
    inner = np.zeros((16, 16), bool)
    inner[4:12, 4:12] = True  # away from the borders of a patch, where chroma is mixed
    error = (received - image)[np.tile(inner, (32, 32))]
    assert np.abs(error).max() <= 2 and np.abs(error.mean(0)).max() < 0.05


def test_planes_are_full_range_bt601():
    colours = {(0, 0, 0): (0, 128, 128), (255, 255, 255): (255, 128, 128), (255, 0, 0): (76, 85, 255),
               (0, 0, 255): (29, 255, 107)}
    for colour, (luma, blue, red) in colours.items():
        planes = video.rgb_to_planes(np.full((2, 2, 3), colour, np.uint8))
        assert planes.tolist() == [[luma, luma], [luma, luma], [blue, red]]
