"""Published weights: a torch checkpoint -> encoder and decoder under this project's names, and facts about it."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from spic.bottleneck import make_bottleneck
from spic.errors import SpicError, reason
from spic.networks.weights import parameters_of
from spic.points import OperatingPoint
from spic.published.layout import geometry

_ROLES = {
    "conv2_2": "encoder.depthwise", "bn2_1": "encoder.norm1", "conv2_3": "encoder.pointwise", "bn3_1": "encoder.norm2",
    "conv2_4": "decoder.pointwise", "bn4_1": "decoder.norm1", "conv2_5": "decoder.depthwise", "bn5_1": "decoder.norm2",
}
_ESTIMATOR = ("priorEncoder", "priorDecoder", "bitEstimator_z")
_MOST_CHANNELS = 4096  # that come out of a front
_INITIAL_BIAS = 0.01  # of the estimator's convolutions, before weight decay


@dataclass(frozen=True)
class Origin:
    """What an import keeps of a published checkpoint beside the bottleneck. device: where its tensors were saved.

    estimator_shrink: the one factor that all constants of the rate estimator's initialisation were multiplied by
    (1 without weight decay); None if they differ from each other, as they would after any training.
    """

    file: str
    device: str
    estimator_parameters: int
    estimator_shrink: float | None


@dataclass(frozen=True)
class Checkpoint:
    """A published weights file: ``state`` fits ``make_bottleneck``; the rate estimator is described, not kept."""

    state: dict[str, Tensor]
    origin: Origin

    @property
    def digest(self) -> str:
        """SHA-256 over names and values: equal for two bottlenecks that are equal bit for bit."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state.items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def parameters(self) -> int:
        """Of encoder and decoder, without what BatchNorm observes."""
        return parameters_of(self.state)

    @property
    def content(self) -> str:
        """SHA-256 of everything that is kept, whatever the version of safetensors that writes it."""
        return hashlib.sha256(f"{self.digest} {json.dumps(asdict(self.origin))}".encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """The safetensors file; one metadata entry, so that the same checkpoint always gives the same bytes."""
        return save(self.state, metadata={"published": json.dumps(asdict(self.origin))})


def load_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint that ``to_bytes`` wrote."""
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}
            return Checkpoint(state, Origin(**json.loads(file.metadata()["published"])))
    except Exception as error:  # whatever safetensors meets in a foreign file, and a file without that entry
        raise SpicError(f"{path}: not an imported checkpoint ({type(error).__name__}: {reason(error)})") from None


def read_checkpoint(data: bytes, point: OperatingPoint, name: str) -> Checkpoint:
    """The published file ``name``, read without executing pickle code and checked against the point's geometry."""
    devices = set()

    def on_cpu(storage, device: str):
        devices.add(device)
        return storage

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            published = torch.load(io.BytesIO(data), map_location=on_cpu, weights_only=True)["state_dict"]
        estimator = {key: value for key, value in published.items() if key.split(".")[0] in _ESTIMATOR}
        state = {_our_name(key): value for key, value in published.items() if key not in estimator}
        wrong = _misfit(state, point)
        origin = _origin(estimator, name, devices)
    except Exception as error:  # whatever torch meets in a foreign file
        raise SpicError(f"{name}: not a published checkpoint ({type(error).__name__}: {reason(error)})") from None
    if wrong:
        raise SpicError(f"{name}: does not fit {point.name} with stride {point.stride} and {point.channels} channels "
                        f"(first: {wrong})")
    # a file may ask for gradients, or let tensors share memory
    return Checkpoint({key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}, origin)


def _origin(estimator: dict[str, Tensor], name: str, devices: set[str]) -> Origin:
    parameters = {key: value for key, value in estimator.items() if "running" not in key and "num_batches" not in key}
    count = sum(value.numel() for value in parameters.values())
    return Origin(name, "/".join(sorted(devices)), count, estimator_shrink(parameters))


def _our_name(name: str) -> str:
    layer, _, parameter = name.partition(".")
    return f"{_ROLES[layer]}.{parameter}"


def _misfit(state: dict[str, Tensor], point: OperatingPoint) -> str | None:
    """The first parameter that the point's bottleneck lacks, or that is not its own; shapes before values, as a tensor of
    a few bytes can claim any shape."""
    in_channels = min(sum(state.get("encoder.norm1.weight", torch.zeros(1)).shape[:1]) or 1, _MOST_CHANNELS)
    with torch.device("meta"):
        expected = make_bottleneck((in_channels, 1, 1), point.channels, point.stride, geometry(point)).state_dict()
    wrong = sorted(expected.keys() ^ state.keys()) or [
        key for key, value in state.items() if (value.shape, value.dtype) != (expected[key].shape, expected[key].dtype)]
    wrong = wrong or [key for key, value in state.items() if not value.isfinite().all()]
    return wrong[0] if wrong else None


def estimator_shrink(parameters: dict[str, Tensor]) -> float | None:
    """See Origin. Scales of the estimator start at 1, shifts at 0 and biases at 0.01, in all channels alike."""
    scales, shifts, biases = (_values(parameters, norm, kind) for norm, kind in
                              ((True, "weight"), (True, "bias"), (False, "bias")))
    shrink = float(scales[0])
    untouched = (scales == shrink).all() and (shifts == 0).all() and torch.allclose(
        biases, torch.tensor(_INITIAL_BIAS * shrink), rtol=1e-3)
    return round(shrink, 6) if untouched else None


def _values(parameters: dict[str, Tensor], norm: bool, kind: str) -> Tensor:
    """All values of the estimator's normalisations (or of its convolutions) of one kind, in one vector."""
    chosen = [value.flatten() for key, value in parameters.items()
              if (".bn" in key) == norm and key.endswith("." + kind)]
    return torch.cat(chosen) if chosen else torch.full((1,), torch.nan)
