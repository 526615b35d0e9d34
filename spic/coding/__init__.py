"""Entropy coding: frequency tables, Huffman and rANS coders, and the stream on the wire."""

from __future__ import annotations

from spic.coding.coder import Coder
from spic.coding.frequency import FrequencyTable
from spic.coding.huffman import HuffmanTables
from spic.coding.rans import RansTables
from spic.errors import SpicError

__all__ = ["CODERS", "Coder", "FrequencyTable", "make_coder"]


def _huffman(table: FrequencyTable, threads: int | None):
    from spic.coding.engine.huffman_cpu import HuffmanCpu

    engine = HuffmanCpu(HuffmanTables(table.distributions), threads)
    return lambda n_symbols: engine


def _rans(table: FrequencyTable, threads: int | None):
    from spic.coding.engine.rans_cpu import RansCpu

    return lambda n_symbols: RansCpu(RansTables(table.distributions, n_symbols), threads)


CODERS = {"huffman": _huffman, "rans": _rans}


def make_coder(name: str, table: FrequencyTable, device="cpu", threads: int | None = None) -> Coder:
    """The coder of this name for this table; decoded symbols lie on `device`.
    threads: at most so many (default: torch's number of threads)."""
    if name not in CODERS:
        raise SpicError(f"unknown coder {name!r}, choose from {', '.join(CODERS)}")
    return Coder(name, table, CODERS[name](table, threads), device)
