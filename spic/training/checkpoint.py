"""Checkpoints of a training run: resumed only by the run that wrote them, never half written."""

from __future__ import annotations

import io
from pathlib import Path

import torch

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

    def restore(self, **parts) -> int:
        """Load what ``save`` stored into the parts; how much was done, 0 without a checkpoint."""
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            identity, done, stored = state["identity"], int(state["done"]), state["parts"]
        except Exception:
            raise SpicError(f"{self.path}: not a readable checkpoint; delete it to start over") from None
        self._require_same(identity)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        return done

    def _require_same(self, identity: dict) -> None:
        keys = [*self.identity, *(key for key in identity if key not in self.identity)]
        differing = [f"{key} is {identity.get(key)!r} there and {self.identity.get(key)!r} here"
                     for key in keys if identity.get(key) != self.identity.get(key)]
        if differing:
            raise SpicError(f"{self.path}: checkpoint of another run ({'; '.join(differing)}); "
                            "choose another folder or delete it")
