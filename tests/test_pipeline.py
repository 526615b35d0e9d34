"""Edge and Cloud: everything the cloud knows comes from the bytes, and wrong bytes are refused."""

import pytest
import torch

from spic.bottleneck import make_bottleneck
from spic.coding import FrequencyTable
from spic.errors import SpicError, StreamError
from spic.networks import cut, resnet50
from spic.pipeline import make_halves
from spic.points import load_points
from spic.training.tables import write_point

SIZE = (64, 64)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet50(0.125, 10).eval().requires_grad_(False)


def point_with(folder, steps=(0.25, 0.5)):
    """An operating point of random weights for each step, in a root of its own."""
    torch.manual_seed(1)
    for factor, step in enumerate(steps):
        bottleneck = make_bottleneck("classification", "S3", 128, 6, 2)
        bottleneck.train()(torch.randn(8, 128, 4, 4).relu())
        write_point(bottleneck.eval(), FrequencyTable({0: 90, 1: 30, 2: 9, 3: 1}, step), "classification", "mine", "S3",
                    factor, root=folder)
    return list(load_points(folder / "dict.yaml").values())


@pytest.fixture
def halves(tmp_path, network):
    front, back = cut(network, "S3")
    feature = front(torch.zeros(1, 3, *SIZE))
    return [make_halves(point, front, back, feature, SIZE, "rans") for point in point_with(tmp_path)]


@pytest.fixture
def images():
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def test_the_cloud_computes_from_the_bytes_what_the_split_network_computes(halves, images):
    edge, cloud = halves[0]
    cloud.open(edge.header)
    sent = edge(images)
    logits = cloud(sent.frames)
    expected = cloud.back(cloud.decoder(sent.symbols.float() * edge.step), SIZE)
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


def test_frames_before_the_header_are_refused(halves, images):
    edge, cloud = halves[0]
    with pytest.raises(SpicError, match="no stream header yet"):
        cloud(edge(images).frames)


@pytest.mark.parametrize("damage,message", [
    (lambda frames: [frames[1], frames[0]], "damaged or out of place"),
    (lambda frames: [frames[0][:-1]], "truncated"),
    (lambda frames: [bytes([*frames[0][:-1], frames[0][-1] ^ 1])], "damaged"),
    (lambda frames: frames[1:], "damaged or out of place"),
    (lambda frames: [b"\0"], "truncated"),
])
@torch.inference_mode()
def test_damaged_swapped_and_dropped_frames_are_refused(halves, images, damage, message):
    edge, cloud = halves[0]
    cloud.open(edge.header)
    with pytest.raises(StreamError, match=message):
        cloud(damage(edge(images).frames))


def test_a_table_for_another_step_is_refused(tmp_path, network):
    front, back = cut(network, "S3")
    point = point_with(tmp_path)[0]
    text = (tmp_path / "dict.yaml").read_text().replace("step: 0.25", "step: 0.75")
    (tmp_path / "dict.yaml").write_text(text)
    point = load_points(tmp_path / "dict.yaml")[("classification", "mine", "S3", 0)]
    with pytest.raises(SpicError, match="made for step 0.25, but dict.yaml says 0.75"):
        make_halves(point, front, back, front(torch.zeros(1, 3, *SIZE)), SIZE, "rans")
