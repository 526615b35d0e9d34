"""The rANS coder: integer probabilities, and a state that images share with nothing (docs/bitstream.md)."""

from __future__ import annotations

from spic.coding.rans.reference import decode, encode

__all__ = ["cpu_engine", "decode", "encode", "gpu_engine", "prepare"]


def prepare(distributions, n_symbols: int):
    """What both engines need of these distributions, for images of n_symbols."""
    from spic.coding.rans.tables import RansTables

    return RansTables(distributions, n_symbols)


def cpu_engine(tables, threads: int | None):
    from spic.coding.rans.cpu import RansCpu

    return RansCpu(tables, threads)


def gpu_engine(tables, device: str):
    from spic.coding.rans.gpu import RansGpu

    return RansGpu(tables, device)
