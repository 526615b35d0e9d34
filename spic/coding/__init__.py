"""Entropy coding: frequency tables, Huffman and rANS coders, and the stream on the wire."""

from __future__ import annotations

import warnings

import torch

from spic.coding.coder import Coder
from spic.coding.engine.choice import ENGINES, TABLES, engine_maker
from spic.coding.frequency import FrequencyTable
from spic.errors import SpicError

__all__ = ["CODERS", "ENGINES", "Coder", "FrequencyTable", "make_coder"]

CODERS = tuple(TABLES)
# `python -m spic.coding.frequency` is a command; runpy warns of every one whose package imports it, too.
warnings.filterwarnings("ignore", "'spic.coding.frequency' found in sys.modules", RuntimeWarning)


def make_coder(
    name: str, table: FrequencyTable, device="cpu", engine: str | None = None, threads: int | None = None
) -> Coder:
    """The coder of this name ("huffman" or "rans") for this table.

    device: where decoded symbols shall lie.  engine: "cpu", "gpu", or None for the one that suits the device.
    threads: the CPU engine uses at most so many (default: as many as torch)."""
    if name not in CODERS:
        raise SpicError(f"unknown coder {name!r}, choose from {', '.join(CODERS)}")
    device = torch.device(device)
    return Coder(name, table, engine_maker(name, table, device, engine, threads), device)
