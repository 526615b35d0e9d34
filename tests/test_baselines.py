"""Rivals: codecs and their byte counts, inputs of every kind, plain feature compression, sweeps and their cache."""

import io
import json
import math
import os
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from spic.baselines import anatomy, codecs, evaluate, features, results, video
from spic.baselines.codecs import CODECS, find_codecs
from spic.baselines.evaluate import FeatureRival, PixelRival, sweep
from spic.baselines.features import FEATURE_CODECS
from spic.baselines.inputs import to_rgb8
from spic.baselines.results import ResultCache
from spic.baselines.workers import Workers
from spic.datasets.images import MEAN, STD
from spic.errors import SpicError, StreamError
from spic.metrics import TopK

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


# --- codecs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize("height, width", [(64, 64), (63, 45), (1, 1), (7, 130)])
def test_a_picture_of_any_size_comes_back_in_that_size(name, height, width):
    codec, image = CODECS[name], photo(height, width)
    data = codec.encode(image, codec.sweep[-1])
    received = codec.decode(data)
    assert received.shape == image.shape and received.dtype == np.uint8
    assert psnr(image, received) > (25 if image.size > 3 else 20)  # of one pixel OpenJPEG keeps whole bit planes
    assert sum(codec.parts(data)) == len(data)


@pytest.mark.parametrize("name", PRESENT)
def test_the_sweep_rises_in_rate_and_fidelity(name):
    codec, image = CODECS[name], photo(96, 96)
    coded = [codec.encode(image, quality) for quality in codec.sweep[::3]]
    sizes = [codec.parts(data).payload for data in coded]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert psnr(image, codec.decode(coded[0])) < psnr(image, codec.decode(coded[-1]))


@pytest.mark.parametrize("name", PRESENT)
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


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize("array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)),
                                   np.zeros((0, 8, 3), np.uint8), [[1]]])
def test_what_is_no_rgb_picture_is_refused(name, array):
    with pytest.raises(SpicError):
        CODECS[name].encode(array, CODECS[name].sweep[0])


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


# --- where the bytes go ------------------------------------------------------------------------------------------


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


@pytest.mark.skipif("jpeg2000" not in PRESENT, reason="this Pillow has no JPEG 2000")
def test_jpeg2000_says_colour_transform_and_9_7_wavelet():
    data = CODECS["jpeg2000"].encode(photo(64, 64), 30)
    coding = data.index(b"\xff\x52")  # COD marker: ISO/IEC 15444-1, tables A.12 to A.20
    layers, colour, wavelet = data[coding + 6 : coding + 8], data[coding + 8], data[coding + 13]
    assert (int.from_bytes(layers, "big"), colour, wavelet) == (1, 1, 0)


@pytest.mark.skipif("hevc" not in PRESENT, reason="this PyAV has no HEVC encoder and decoder")
def test_hevc_payload_is_the_slice_unit():
    data = CODECS["hevc"].encode(photo(64, 64), 30)
    units = data[2:].replace(b"\x00\x00\x00\x01", b"\x00\x00\x01").split(b"\x00\x00\x01")[1:]
    kinds = [unit[0] >> 1 & 63 for unit in units]
    assert kinds[:3] == [32, 33, 34] and len(kinds) == 4 and kinds[3] in (16, 17, 18, 19, 20, 21)
    assert CODECS["hevc"].parts(data).payload == len(units[3]) - 2


@pytest.mark.skipif("hevc" not in PRESENT, reason="this PyAV has no HEVC encoder and decoder")
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
    colours = {(0, 0, 0): (0, 128, 128), (255, 255, 255): (255, 128, 128), (255, 0, 0): (76, 85, 255), (0, 0, 255): (29, 255, 107)}
    for colour, (luma, blue, red) in colours.items():
        planes = video.rgb_to_planes(np.full((2, 2, 3), colour, np.uint8))
        assert planes.tolist() == [[luma, luma], [luma, luma], [blue, red]]


# --- inputs ------------------------------------------------------------------------------------------------------


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


# --- plain feature compression -----------------------------------------------------------------------------------


def sparse_feature(channels, height, width, seed=0):
    return np.maximum(np.random.default_rng(seed).normal(-0.5, 1, (channels, height, width)), 0).astype(np.float32)


@pytest.mark.parametrize("name", [name for name in ("zlib", "zstd") if name in FEATURE_PRESENT])
@given(shape=st.tuples(*[st.integers(1, 9)] * 3), bits=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rounded_features_are_off_by_half_a_level_at_most(name, shape, bits, seed):
    feature, codec = sparse_feature(*shape, seed), FEATURE_CODECS[name]
    received = codec.decode(codec.encode(feature, bits))
    level = (feature.max() - feature.min()) / (2**bits - 1)
    assert received.shape == feature.shape and received.dtype == np.float32
    assert np.abs(received - feature).max() <= level / 2 + 1e-5


@pytest.mark.parametrize("name", [name for name in ("jpeg-tiles", "webp-tiles") if name in FEATURE_PRESENT])
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


# --- sweeps ------------------------------------------------------------------------------------------------------


class Pictures:
    """Seven pictures of two classes: dark and bright."""

    def __init__(self, count=7):
        self.count, self.loads = count, 0

    def __len__(self):
        return self.count

    def pixels(self, index):
        self.loads += 1
        return (photo(24, 24, index) // 2 + 120 * (index % 2)).astype(np.uint8)

    def label(self, index):
        return index % 2


class Brightness(nn.Module):
    """Two logits: bright is class 1."""

    def __init__(self):
        super().__init__()
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, x):
        mean = x.mean((1, 2, 3)) - self.threshold
        return torch.stack([-mean, mean], 1)


ABOUT = {"task": "classification", "benchmark": "test", "device": "cpu"}


def run(rival, names, cache=None, table=CODECS, **options):
    chosen = [table[name] for name in names]
    return sweep(rival, chosen, lambda: TopK(2), ABOUT, ResultCache(cache), batch_size=3, workers=2, **options)


def test_a_sweep_counts_every_image_and_every_byte():
    dataset = Pictures()
    (report,) = run(PixelRival(dataset, Brightness()), ["jpeg"], qualities={"jpeg": [40]})
    coded = [CODECS["jpeg"].encode(dataset.pixels(i), 40) for i in range(7)]
    payload = sum(CODECS["jpeg"].parts(data).payload for data in coded)
    assert report["images"] == 7 and report["top1"] == report["baseline_top1"] == 100.0
    assert report["bpp"] == pytest.approx(8 * payload / (7 * 24 * 24))
    assert report["bpp_wire"] == pytest.approx(8 * sum(map(len, coded)) / (7 * 24 * 24))
    assert (report["codec"], report["quality"], report["chroma"]) == ("jpeg", 40, "4:2:0")


def test_the_network_sees_the_decoded_picture_normalised():
    seen = []

    def network(batch):
        seen.extend(batch)
        return torch.zeros(len(batch), 2)

    dataset = Pictures(4)
    run(PixelRival(dataset, network), ["jpeg"], qualities={"jpeg": [5]})
    decoded = CODECS["jpeg"].decode(CODECS["jpeg"].encode(dataset.pixels(3), 5))
    expected = torch.from_numpy((decoded / 255 - MEAN) / STD).permute(2, 0, 1).float()
    assert any(torch.allclose(image, expected, atol=1e-6) for image in seen)


def test_a_second_figure_loads_no_picture_and_a_changed_network_starts_over(tmp_path):
    dataset, network = Pictures(), Brightness()
    first = run(PixelRival(dataset, network), ["webp", "jpeg"], tmp_path)
    rival = PixelRival(dataset, network)
    before = dataset.loads
    assert run(rival, ["webp", "jpeg"], tmp_path) == first
    assert dataset.loads == before
    network.threshold += 100.0
    (changed, *_) = run(PixelRival(dataset, network), ["jpeg"], tmp_path)
    assert changed["top1"] != first[-1]["top1"]


def test_a_damaged_cache_file_is_computed_again(tmp_path):
    rival = PixelRival(Pictures(), Brightness())
    first = run(rival, ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    for file in tmp_path.iterdir():
        file.write_text(file.read_text()[:50])
    again = run(rival, ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    assert again[0]["bpp"] == first[0]["bpp"]


def test_the_cache_keeps_a_row_per_image(tmp_path):
    run(PixelRival(Pictures(), Brightness()), ["jpeg"], tmp_path, qualities={"jpeg": [40]})
    (file,) = tmp_path.glob("jpeg-40-*.json")
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 7 and set(anatomy.Parts._fields) <= set(rows[0]) and rows[0]["top1"] == 1


def test_processes_and_threads_give_the_same_bytes():
    if "jpeg2000" not in PRESENT:
        pytest.skip("this Pillow has no JPEG 2000")
    rival = PixelRival(Pictures(4), Brightness())
    (report,) = run(rival, ["jpeg2000"], qualities={"jpeg2000": [30]})
    payload = sum(CODECS["jpeg2000"].parts(CODECS["jpeg2000"].encode(rival.edge(i), 30)).payload for i in range(4))
    assert report["bpp"] == pytest.approx(8 * payload / (4 * 24 * 24))


def test_a_worker_process_that_dies_is_told():
    class Deadly:
        name, holds_gil = "deadly", True

    with Workers(2) as workers:
        with suppress(BrokenProcessPool):
            workers.processes.submit(os._exit, 3).result()
        with pytest.raises(SpicError, match="a worker process died"):
            workers.submit(Pictures().pixels, 0, Deadly(), 1).result()


def test_feature_rivals_run_front_codec_and_back():
    layers = [nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    network = nn.Sequential(*layers).eval()
    rival = FeatureRival(Pictures(), network, front=network[:2], back=lambda feature, size: network[2:](feature),
                         split_point="S3")
    reports = run(rival, ["zlib"], table=FEATURE_CODECS, qualities={"zlib": [8]})
    assert reports[0]["split_point"] == "S3" and reports[0]["codec"] == "zlib"
    assert reports[0]["top1"] == reports[0]["baseline_top1"]
    assert (reports[0]["edge_parameters"], reports[0]["edge_macs"]) == (4 * 27 + 4, 4 * 27 * 36)


def test_dataset_and_network_identities_follow_their_content(tmp_path):
    assert results.dataset_id(Pictures()) == results.dataset_id(Pictures())
    assert results.dataset_id(Pictures(7)) != results.dataset_id(Pictures(6))
    file = tmp_path / "picture"
    file.write_bytes(b"1")
    pictures = Pictures()
    pictures.paths = [file]
    before = results.dataset_id(pictures)
    file.write_bytes(b"12")
    assert results.dataset_id(pictures) != before
    first, second = Brightness(), Brightness()
    assert results.network_id(first) == results.network_id(second)
    second.threshold += 1
    assert results.network_id(first) != results.network_id(second)


def test_other_code_or_another_device_finds_no_result(tmp_path, monkeypatch):
    def rival():
        return PixelRival(Pictures(), Brightness())

    run(rival(), ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    known = len(list(tmp_path.iterdir()))
    run(rival(), ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    assert len(list(tmp_path.iterdir())) == known
    elsewhere = rival()
    elsewhere.device = "elsewhere"
    monkeypatch.setattr(elsewhere, "cloud", rival().cloud)
    run(elsewhere, ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    assert len(list(tmp_path.iterdir())) == 2 * known
    monkeypatch.setattr(evaluate, "code_id", lambda: "changed")
    run(rival(), ["jpeg"], tmp_path, qualities={"jpeg": [50]})
    assert len(list(tmp_path.iterdir())) == 3 * known


def test_a_failing_picture_ends_the_sweep_with_its_error():
    class Broken(Pictures):
        def pixels(self, index):
            if index == 5:
                raise SpicError("cannot read the image five.jpg")
            return super().pixels(index)

    rival = PixelRival(Pictures(), Brightness())
    rival.dataset = Broken()
    with pytest.raises(SpicError, match="five.jpg"):
        run(rival, ["jpeg"])


def test_normalise_matches_the_data_sets_transform():
    pixels = photo(8, 8)
    expected = (pixels.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    assert np.allclose(evaluate.normalise([pixels])[0].permute(1, 2, 0), expected, atol=1e-6)


def test_encoding_leaves_the_priority_of_the_process_alone():
    codec = CODECS["av1"] if "av1" in PRESENT else None
    if codec is None or not hasattr(os, "sched_getscheduler"):
        pytest.skip("no AV1 encoder, or no such priorities, here")
    before = os.sched_getscheduler(0)
    codec.encode(np.zeros((64, 64, 3), np.uint8), 40)
    assert os.sched_getscheduler(0) == before
