"""Edge and Cloud: everything the cloud knows comes from the bytes, and wrong bytes are refused."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from spic.benchmarks import find
from spic.bottleneck import make_bottleneck
from spic.coding import FrequencyTable
from spic.errors import SpicError, StreamError
from spic.files import record_checksums
from spic.networks import cut
from spic.networks.narrow import resnet50
from spic.pipeline import Cloud, Edge, make_halves
from spic.points import ROOT, load_points
from spic.training.tables import write_point

SIZE = (64, 64)
NETWORK = "narrow:resnet50/0.125"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet50(0.125, 10).eval().requires_grad_(False)


def point_with(folder, steps=(0.25, 0.5), network=NETWORK):
    """An operating point of random weights for each step, in a root of its own."""
    torch.manual_seed(1)
    for factor, step in enumerate(steps):
        bottleneck = make_bottleneck((128, 4, 4), 6, 2)
        bottleneck.train()(torch.randn(8, 128, 4, 4).relu())
        write_point(bottleneck.eval(), FrequencyTable({0: 90, 1: 30, 2: 9, 3: 1}, step), ("classification", "mine", "S3", factor),
                    folder, {"network": network, "cut": "layer3.4"})
    return list(load_points(folder / "dict.yaml").values())


def benchmark():
    """The scenes' with a network of 10 classes."""
    return find("classification", "scenes").of_network(NETWORK)


@pytest.fixture
def halves(tmp_path, network):
    front, back, _ = cut(network, "layer3.4", torch.zeros(1, 3, *SIZE))
    feature = front(torch.zeros(1, 3, *SIZE))
    return [make_halves(point, benchmark(), front, back, feature, SIZE, "rans") for point in point_with(tmp_path)]


@pytest.fixture
def images():
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def test_the_cloud_computes_from_the_bytes_what_the_split_network_computes(halves, images):
    edge, cloud = halves[0]
    cloud.open(edge.header)
    sent = edge(images)
    logits = cloud(sent.frames)
    expected = cloud.back(cloud.decoder.place(cloud.decoder(sent.symbols.float() * edge.step)))
    assert torch.equal(logits, expected)
    assert all(isinstance(frame, bytes) for frame in sent.frames)
    cloud.close(edge.close())


@torch.inference_mode()
def test_a_frame_may_come_alone_or_with_others(halves, images):
    edge, cloud = halves[0]
    cloud.open(edge.header)
    sent = edge(images)
    together = cloud.receive(sent.frames).symbols
    cloud.open(edge.header)
    alone = torch.cat([cloud.receive([frame]).symbols for frame in sent.frames])
    assert torch.equal(together, alone)


def test_a_stream_of_another_operating_point_is_refused(halves):
    with pytest.raises(StreamError, match="another operating point"):
        halves[1][1].open(halves[0][0].header)


def test_frames_before_the_header_and_after_the_end_are_refused(halves, images):
    edge, cloud = halves[0]
    with torch.inference_mode():
        frames = edge(images).frames
    for act in (lambda: cloud(frames), lambda: cloud.close(b"\0")):
        with pytest.raises(SpicError, match="no stream header yet"):
            act()
    cloud.open(edge.header)
    with torch.inference_mode():
        cloud(frames)
    cloud.close(edge.close())
    with pytest.raises(SpicError, match="no stream header yet, or the stream was closed"):
        cloud(frames)


@pytest.mark.parametrize("damage,message", [
    (lambda frames: [frames[1], frames[0]], "damaged or out of place"),
    (lambda frames: [frames[0][:-1]], "truncated"),
    (lambda frames: [bytes([*frames[0][:-1], frames[0][-1] ^ 1])], "damaged"),
    (lambda frames: frames[1:], "damaged or out of place"),
    (lambda frames: [b"\0"], "truncated"),
    (lambda frames: [frames[0] + frames[1], frames[2]], "bytes too many"),
    (lambda frames: [frames[0], frames[1], frames[2][:-1]], "truncated"),
])
@torch.inference_mode()
def test_a_batch_with_a_wrong_frame_is_refused_and_consumes_nothing(halves, images, damage, message):
    edge, cloud = halves[0]
    cloud.open(edge.header)
    frames = edge(images).frames
    with pytest.raises(StreamError, match=message):
        cloud(damage(frames))
    assert torch.equal(cloud.receive(frames).symbols, edge.encode(edge.front(images))[0]), "the right frames may still follow"


@torch.inference_mode()
def test_after_an_error_a_stream_begins_clean_on_both_sides(halves, images):
    edge, cloud = halves[0]
    cloud.open(edge.header)
    frames = edge(images).frames
    with pytest.raises(StreamError):
        cloud([frames[0][:-2]])
    with pytest.raises(StreamError):
        cloud.open(b"SPI")
    cloud.open(edge.restart())
    assert len(cloud(edge(images).frames)) == 3
    cloud.close(edge.close())


@pytest.mark.parametrize("wrong", [
    torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 65, 64), torch.zeros(1, 4, 64, 64), torch.zeros(3, 64, 64),
    torch.zeros(1, 3, 64, 64, dtype=torch.float64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)])
def test_the_edge_refuses_pictures_that_are_not_those_of_its_header(halves, wrong):
    with pytest.raises(SpicError, match=r"the edge takes float32 images \[B, 3, 64, 64\], not"):
        halves[0][0](wrong)


@torch.inference_mode()
def test_the_edge_refuses_a_feature_of_another_size(halves):
    with pytest.raises(SpicError, match="symbols of shape .*header says"):
        halves[0][0].send(torch.zeros(1, 128, 6, 6))


@torch.inference_mode()
def test_numbers_that_are_none_are_named(halves, images):
    edge, _ = halves[0]
    with pytest.raises(SpicError, match="the front's feature is not a number everywhere"):
        edge(torch.full_like(images, torch.nan))
    edge.encoder.pointwise.weight[0] = torch.nan
    with pytest.raises(SpicError, match="the encoder's weights are not all numbers .pointwise.weight"):
        edge(images)


def test_a_table_for_another_step_is_refused(tmp_path, network):
    point = point_with(tmp_path)[0]
    text = (tmp_path / "dict.yaml").read_text().replace("step: 0.25", "step: 0.75")
    (tmp_path / "dict.yaml").write_text(text)
    point = load_points(tmp_path / "dict.yaml")[("classification", "mine", "S3", 0)]
    front, back, _ = cut(network, "layer3.4", torch.zeros(1, 3, *SIZE))
    with pytest.raises(SpicError, match="made for step 0.25, but dict.yaml says 0.75"):
        make_halves(point, benchmark(), front, back, front(torch.zeros(1, 3, *SIZE)), SIZE, "rans")


# ---- each half from its own files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return load_points()["classification", "scenes", "S2", 1]


@torch.inference_mode()
def test_halves_made_apart_answer_as_halves_made_together(shipped):
    image = torch.randn(1, 3, 224, 224)
    edge, cloud = Edge.load(shipped, "rans"), Cloud.load(shipped, "rans")
    cloud.open(edge.header)
    logits = cloud(edge(image).frames)
    network = find("classification", "scenes").build_network()
    front, back, _ = cut(network, "layer4.0", image)
    together = make_halves(shipped, find("classification", "scenes"), front, back, front(image), (224, 224), "rans")
    together[1].open(together[0].header)
    torch.testing.assert_close(logits, together[1](together[0](image).frames), rtol=1e-4, atol=1e-4)


def test_neither_half_needs_the_weights_of_the_other(shipped, tmp_path, monkeypatch):
    """Files from which the other half's tensors were taken out: each side still starts, and the other one does not."""
    shutil.copytree(ROOT / "Freq_tab/scenes/S2", tmp_path / "Freq_tab/scenes/S2")
    shutil.copy(ROOT / "dict.yaml", tmp_path)
    keep = {"edge": lambda name: not name.startswith(("fc.", "layer4.1", "layer4.2", "decoder.")),
            "cloud": lambda name: name.startswith(("fc.", "layer4.1", "layer4.2", "decoder."))}
    for side, wanted in keep.items():
        root = tmp_path / side
        shutil.copytree(tmp_path / "Freq_tab", root / "Freq_tab")
        shutil.copy(ROOT / "dict.yaml", root)
        for name in ("classification.safetensors", "S2/classification_1.safetensors"):
            target = root / "Weights/scenes" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            save_file({k: v for k, v in load_file(ROOT / "Weights/scenes" / name).items() if wanted(k)}, target)
        files = [*root.rglob("*.safetensors"), *root.rglob("classification_1.json")]
        record_checksums("scenes", files, root)
        point = load_points(root / "dict.yaml")["classification", "scenes", "S2", 1]
        weights = root / "Weights/scenes/classification.safetensors"
        mine, other = (Edge, Cloud) if side == "edge" else (Cloud, Edge)
        assert mine.load(point, weights=weights).expected.shape == (8, 4, 4)
        with pytest.raises(SpicError, match="do not fit the network .* missing"):
            other.load(point, weights=weights)


def test_the_published_point_that_is_no_split_has_no_halves():
    with pytest.raises(SpicError, match="as published, this is no split"):
        Edge.load(load_points()["segmentation", "coco", "S1", 0])


@pytest.mark.parametrize("rdo", [-0.1, float("inf"), float("nan")])
def test_an_edge_takes_no_strength_that_is_none(tmp_path, rdo):
    point, = point_with(tmp_path, steps=(0.5,))
    with pytest.raises(SpicError, match="must be a number from 0"):
        Edge.load(point, "rans", rdo=rdo)
