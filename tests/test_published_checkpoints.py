"""The published checkpoints of bottlenecks: read by their parameter names, refused where they are something else."""

import io

import pytest
import torch

from spic.bottleneck import PUBLISHED_PIXELS, make_bottleneck
from spic.errors import SpicError
from spic.points import load_points
from spic.published.checkpoints import _ROLES, read_checkpoint
from tests.test_published_unpickle import Attack

DICT = """segmentation:
  coco:
    S1:
      4: {step: 3, stride: 8, channels: 2,
          weights: Weights/coco/S1/segmentation_4.safetensors, table: Freq_tab/coco/S1/segmentation_4.json}
"""


def checkpoint_bytes(point, trained: bool = False, **changes) -> bytes:
    """A checkpoint with the published parameter names, and the beginnings of an estimator."""
    torch.manual_seed(point.channels)
    ours = make_bottleneck((256, 65, 65), point.channels, point.stride, PUBLISHED_PIXELS).state_dict()
    theirs = {role: name for name, role in _ROLES.items()}
    state = {f"{theirs[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in ours.items()}
    scales = torch.linspace(0.1, 0.5, 8) if trained else torch.full((8,), 0.25)
    state |= {"priorEncoder.bn1.weight": scales, "priorEncoder.bn1.bias": torch.zeros(8),
              "priorEncoder.bn1.running_mean": torch.randn(8), "priorEncoder.conv1.bias": torch.full((8,), 0.0025)}
    buffer = io.BytesIO()
    torch.save({"state_dict": {**state, **changes}}, buffer)
    return buffer.getvalue()


@pytest.fixture
def point(tmp_path):
    (tmp_path / "dict.yaml").write_text(DICT)
    (found,) = load_points(tmp_path / "dict.yaml").values()
    return found


@pytest.mark.parametrize("changes, message", [
    ({"conv2_9.weight": torch.zeros(1)}, "not a published checkpoint"),
    ({"conv2_3.weight": torch.zeros(3, 256, 1, 1)}, "does not fit .* encoder.pointwise.weight"),
    ({"conv2_3.weight": torch.zeros(2, 256, 1, 1, dtype=torch.float64)}, "does not fit .* encoder.pointwise.weight"),
    ({"bn5_1.bias": torch.full((256,), float("nan"))}, "does not fit .* decoder.norm2.bias"),
    ({"conv2_2.weight": torch.zeros(())}, "does not fit|not a published checkpoint"),
    ({"conv2_2.weight": torch.zeros(1).expand(1 << 40)}, "does not fit .* encoder.depthwise.weight"),  # 4 TB from 4 bytes
    ({"bn2_1.weight": torch.zeros(1).expand(1 << 40)}, "does not fit"),
    ({"bn2_1.weight": "text"}, "not a published checkpoint"),
    ({"priorEncoder.bn1.weight": "text"}, "not a published checkpoint"),
    ({"priorEncoder.bn1.weight": torch.zeros(0)}, "not a published checkpoint"),
])
def test_a_checkpoint_that_does_not_fit_is_refused(point, changes, message):
    with pytest.raises(SpicError, match=message):
        read_checkpoint(checkpoint_bytes(point, **changes), point, "model5.pth.tar")


@pytest.mark.parametrize("content", [[1], {"state_dict": [1]}, {"state_dict": {5: torch.zeros(1)}}, {"state_dict": {}}, {}])
def test_a_checkpoint_of_another_kind_is_refused(point, content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with pytest.raises(SpicError, match="model5: (not a published checkpoint|does not fit)"):
        read_checkpoint(buffer.getvalue(), point, "model5")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_that_runs_code_runs_nothing(point, tmp_path):
    buffer = io.BytesIO()
    torch.save({"state_dict": Attack(tmp_path / "touched")}, buffer)
    for data in (buffer.getvalue(), b"", b"PK\x03\x04", b"\x80\x04N."):
        with pytest.raises(SpicError, match="not a published checkpoint"):
            read_checkpoint(data, point, "model5.pth.tar")
    assert not (tmp_path / "touched").exists()


def test_tensors_that_ask_for_gradients_or_share_memory_are_read(point):
    ones = torch.ones(256)
    odd = {"bn5_1.bias": torch.ones(256, requires_grad=True), "bn2_1.bias": ones, "bn2_1.weight": ones}
    plain = {name: torch.ones(256) for name in odd}
    found, expected = (read_checkpoint(checkpoint_bytes(point, **state), point, "model5") for state in (odd, plain))
    assert found.content == expected.content and found.to_bytes() == expected.to_bytes()


def test_a_trained_estimator_is_told_from_an_untrained_one(point):
    assert read_checkpoint(checkpoint_bytes(point), point, "").origin.estimator_shrink == 0.25
    assert read_checkpoint(checkpoint_bytes(point, trained=True), point, "").origin.estimator_shrink is None
