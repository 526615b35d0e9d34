"""Entropy coding: frequency tables, Huffman and rANS coders, and the stream on the wire (stream.py).

    table = FrequencyTable.from_symbols(training_symbols, step=0.5)      # int [B, C, h, w]
    coder = make_coder("rans", table)
    payloads = coder.encode(symbols)                                     # int [B, C, h, w] → B times bytes
    symbols = coder.decode(payloads, symbols.shape[1:])                  # int32 array [B, C, h, w]

Symbols are integers from 0 to 2**24 - 1. Bad input is a SpicError, a payload that no encoder made a StreamError.
numpy and numba are all this needs (without numba it is slow); torch enters only with a GPU engine. docs/bitstream.md specifies the bytes.
"""

from spic.coding.coder import Coder, make_coder
from spic.coding.engine import CODERS, ENGINES
from spic.coding.tables import FrequencyTable

__all__ = ["CODERS", "ENGINES", "Coder", "FrequencyTable", "make_coder"]
