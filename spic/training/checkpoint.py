"""Checkpoints of a training run: resumed only by the run that wrote them, never half written."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from spic.errors import SpicError
from spic.files import write_whole

MOST_STEPS = 1 << 31


class Run:
    """The checkpoint file of one run; ``identity`` says which run it is (its options)."""

    def __init__(self, path: Path, identity: dict):
        self.path = path
        self.identity = identity

    def save(self, done: int, **parts) -> None:
        """Store the state dicts of the parts after ``done`` epochs or iterations."""
        buffer = io.BytesIO()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"identity": self.identity, "done": done, "parts": states}, buffer)
        write_whole(self.path, buffer.getvalue())

    def done(self) -> int:
        """How much of this run was done, 0 without a checkpoint; one of another run is refused."""
        return self._read()[0]

    def restore(self, **parts) -> int:
        """Load what ``save`` stored into the parts; how much was done, 0 without a checkpoint."""
        done, stored = self._read()
        for name, part in (parts if done else {}).items():
            try:
                _load(part, stored[name])
            except Exception as error:  # each kind of part complains in its own way
                raise SpicError(f"{self.path}: its {name} does not fit this run ({' '.join(str(error).split())[:200]}); "
                                "delete it to start over") from None
        return done

    def _read(self) -> tuple[int, dict]:
        if not self.path.exists():
            return 0, {}
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            identity, done, stored = _checked(state)
        except Exception:
            raise SpicError(f"{self.path}: not a readable checkpoint; delete it to start over") from None
        self._require_same(identity)
        return done, stored

    def _require_same(self, identity: dict) -> None:
        keys = [*self.identity, *(key for key in identity if key not in self.identity)]
        differing = [f"{key:.80} is {repr(identity.get(key))[:80]} there and {repr(self.identity.get(key))[:80]} here"
                     for key in keys if identity.get(key) != self.identity.get(key)]
        if differing:
            raise SpicError(f"{self.path}: checkpoint of another run ({'; '.join(differing)[:800]}); "
                            "choose another folder or delete it")


def _checked(state) -> tuple[dict, int, dict]:
    """Identity, what is done, and the parts of a stored checkpoint."""
    identity, done, parts = state["identity"], state["done"], state["parts"]
    if not (isinstance(identity, dict) and isinstance(parts, dict) and type(done) is int and 0 <= done < 2**62):
        raise ValueError("entries of another kind")
    if not all(isinstance(key, str) and _is_plain(value) for key, value in identity.items()):
        raise ValueError("an identity that cannot be compared")
    return identity, done, parts


def _is_plain(value) -> bool:
    """What options are made of; a tensor among them would make every comparison a tensor, too."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, bool, float)) or type(value) is int and abs(value) < 2**64


def _load(part, stored: dict) -> None:
    if stored.keys() != part.state_dict().keys():
        raise KeyError("missing or unknown entries")
    if isinstance(part, Optimizer):
        _load_optimizer(part, stored)
    else:
        part.load_state_dict(stored)


def _load_optimizer(optimizer: Optimizer, stored: dict) -> None:
    """Load and look: an optimizer takes moments of any name and shape, and fails, or goes astray, in its next step."""
    settings = _settings(optimizer)
    optimizer.load_state_dict(stored)
    if _settings(optimizer) != settings:
        raise KeyError("missing, unknown or other settings")
    samples = _moments(optimizer)
    for parameter, moments in optimizer.state.items():
        wrong = moments.keys() ^ samples.keys() or {name for name, value in moments.items()
                                                    if not _alike(value, samples[name], parameter)}
        if wrong:
            raise ValueError(f"{sorted(map(str, wrong))[0]} is missing, unknown, of another kind or shape, or no number")
        for name, value in moments.items():  # a file can make several numbers of one place in memory: no step could be taken
            moments[name] = value.clone() if isinstance(value, Tensor) else value


def _alike(value, sample, parameter: Tensor) -> bool:
    """Whether a moment of the parameter is of the kind of the sample, which is of a parameter with one number."""
    if not isinstance(sample, Tensor):
        return type(value) is type(sample)
    shape = parameter.shape if sample.ndim else sample.shape
    return (isinstance(value, Tensor) and value.layout == sample.layout and value.shape == shape
            and value.is_floating_point() == sample.is_floating_point() and bool(value.isfinite().all())
            and (bool(sample.ndim) or 0 <= value.item() < MOST_STEPS))


def _settings(optimizer: Optimizer) -> list[dict]:
    """Of each group; a schedule sets the learning rate anew, the others are the run's, with the types they had."""
    return [{name: None if name in ("params", "lr") else (type(value), value) for name, value in group.items()}
            for group in optimizer.param_groups]


def _moments(optimizer: Optimizer) -> dict:
    """What this kind of optimizer remembers of a parameter: seen on one of its own, with one number."""
    probe = torch.zeros(1, requires_grad=True)
    probe.grad = torch.zeros(1)
    fresh = type(optimizer)([probe], **optimizer.defaults)
    fresh.step()
    return dict(fresh.state[probe])
