"""spic: split a network in two, send the feature between the halves in as few bits as possible.

The names below are loaded when they are first used: ``import spic`` alone loads no torch. docs/api.md describes them.
"""

from __future__ import annotations

import importlib

__version__ = "0.2.0"

_HOMES = {"Cloud": "spic.pipeline", "Edge": "spic.pipeline", "FrequencyTable": "spic.coding", "SpicError": "spic.errors",
          "StreamError": "spic.errors", "cut": "spic.networks", "load_points": "spic.points", "make_coder": "spic.coding"}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'spic' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
