"""State dicts: read without executing anything, loaded strictly or refused by name, identified by their content."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from spic.errors import SpicError, reason

_OBSERVED = ("running_mean", "running_var", "num_batches_tracked")


def read_state_dict(path: Path, wanted: set[str] | None = None) -> dict[str, torch.Tensor]:
    """A state dict from .safetensors, or from a torch file without executing any pickled code.

    wanted: give only these names; the rest of a .safetensors file is not even read.
    """
    if not Path(path).is_file():
        raise SpicError(f"{path}: no such file; pass a torchvision state dict (.pth or .safetensors)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = _read_safetensors(path, wanted) if Path(path).suffix == ".safetensors" else \
                torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SpicError(f"{path}: not a readable state dict ({reason(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(key, str) and _is_plain(value) for key, value in state.items()):
        raise SpicError(f"{path}: holds no state dict (a mapping from names to tensors)")
    return state if wanted is None else {name: value for name, value in state.items() if name in wanted}


def _read_safetensors(path: Path, wanted: set[str] | None) -> dict[str, torch.Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if wanted is None or name in wanted}


def _is_plain(value) -> bool:
    """Whether it can be a parameter: a tensor of real numbers, all of them stored."""
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not (value.is_complex() or value.is_quantized)


def load_strictly(module: nn.Module, state: dict, path: Path) -> None:
    """Load every parameter, or say in one line which of them do not fit."""
    try:
        module.load_state_dict(state)
    except RuntimeError:
        expected = module.state_dict()
        missing = [key for key in expected if key not in state]
        foreign = [key for key in state if key not in expected and not key.startswith("aux_classifier.")]
        shapes = [key for key in expected if key in state and state[key].shape != expected[key].shape]
        problems = [f"{len(keys)} {what}: {', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''}"
                    for what, keys in (("missing", missing), ("unexpected", foreign), ("of another shape", shapes)) if keys]
        raise SpicError(f"{path}: these weights do not fit the network ({'; '.join(problems)})") from None


def parameters_of(state: Mapping[str, torch.Tensor]) -> int:
    """How many numbers of a state dict are learned: all but those that BatchNorm observes."""
    return sum(value.numel() for name, value in state.items() if not name.endswith(_OBSERVED))


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
