"""The Huffman coder: one code per distribution, as the published code builds it (docs/bitstream.md)."""

from __future__ import annotations

from spic.coding.huffman.reference import END, decode, encode, huffman_code

__all__ = ["END", "cpu_engine", "decode", "encode", "gpu_engine", "huffman_code", "prepare"]


def prepare(distributions, n_symbols: int):
    """What both engines need of these distributions; n_symbols, the size of an image, makes no difference here."""
    from spic.coding.huffman.tables import HuffmanTables

    return HuffmanTables(distributions)


def cpu_engine(tables, threads: int | None):
    from spic.coding.huffman.cpu import HuffmanCpu

    return HuffmanCpu(tables, threads)


def gpu_engine(tables, device: str):
    from spic.coding.huffman.gpu import HuffmanGpu

    return HuffmanGpu(tables, device)
