"""Checkpoints of a training run: resumed only by the run that wrote them, never half written."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch.optim import Optimizer

from spic.errors import SpicError
from spic.files import write_whole


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
        differing = [f"{key} is {identity.get(key)!r} there and {self.identity.get(key)!r} here"
                     for key in keys if identity.get(key) != self.identity.get(key)]
        if differing:
            raise SpicError(f"{self.path}: checkpoint of another run ({'; '.join(differing)}); "
                            "choose another folder or delete it")


def _checked(state) -> tuple[dict, int, dict]:
    """Identity, what is done, and the parts of a stored checkpoint."""
    identity, done, parts = state["identity"], state["done"], state["parts"]
    if not (isinstance(identity, dict) and isinstance(parts, dict) and type(done) is int and done >= 0):
        raise ValueError("entries of another kind")
    return identity, done, parts


def _load(part, stored: dict) -> None:
    if stored.keys() != part.state_dict().keys():
        raise KeyError("missing or unknown entries")
    if isinstance(part, Optimizer):
        _load_optimizer(part, stored)
    else:
        part.load_state_dict(stored)


def _load_optimizer(optimizer: Optimizer, stored: dict) -> None:
    """Load and look: an optimizer takes moments of any name and shape, and fails, or goes astray, in its next step."""
    settings = [group.keys() for group in optimizer.param_groups]
    optimizer.load_state_dict(stored)
    if [group.keys() for group in optimizer.param_groups] != settings:
        raise KeyError("missing or unknown settings")
    names = _moments(optimizer)
    for parameter, moments in optimizer.state.items():
        wrong = moments.keys() ^ names or {name for name, value in moments.items()
                                           if getattr(value, "ndim", 0) and value.shape != parameter.shape}
        if wrong:
            raise ValueError(f"{sorted(wrong)[0]} is missing, unknown or of another shape")


def _moments(optimizer: Optimizer) -> set[str]:
    """What this kind of optimizer remembers of a parameter: seen on one of its own."""
    probe = torch.zeros(1, requires_grad=True)
    probe.grad = torch.zeros(1)
    fresh = type(optimizer)([probe], **optimizer.defaults)
    fresh.step()
    return set(fresh.state[probe])
