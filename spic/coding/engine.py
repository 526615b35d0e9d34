"""Which engine codes: the GPU's for symbols on a GPU where its kernels prove themselves, else the CPU's.

An engine is made for one table and one number of symbols N; it gives the bytes of its coder's reference, fast:

    matrix(symbols [B, ...]) → int32 [B, N] where the engine works, checked
    encode(matrix, selector) → list of B payloads
    decode(payloads, selector) → (matrix int32 [B, N], status int32 array [B], see STATUS)

A selector says which distribution codes which symbol (contexts.py).

The CPU engine's matrices are numpy arrays, the GPU engine's torch tensors on its device.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from spic.coding.plain import PlainEngine, numba_is_missing
from spic.coding.tables import FrequencyTable
from spic.errors import SpicError

CODERS = ("huffman", "rans")
"""Folders beside this file. Each has prepare(distributions, n_symbols) → arrays, cpu_engine(arrays, threads),
gpu_engine(arrays, device), and the reference, encode and decode. A new coder is a new folder and its name here."""
ENGINES = ("cpu", "gpu")

OK, TRUNCATED, BAD_ESCAPE, LEFT_OVER = range(4)
STATUS = {
    TRUNCATED: "the payload ends within a code",
    BAD_ESCAPE: "an impossible escape",
    LEFT_OVER: "bytes left over, or a wrong end of the payload",
}
"""What a decoder found wrong with a payload."""


def coder_module(name: str):
    """The folder of the coder of this name; an unknown one is a SpicError that lists those there are."""
    if name not in CODERS:
        raise SpicError(f"unknown coder {name!r}, choose from {', '.join(CODERS)}")
    return importlib.import_module(f"spic.coding.{name}")


def choose_engine(
    name: str, table: FrequencyTable, engine: str | None, device, threads: int | None
) -> tuple[Callable[[int], object], str]:
    """(number of symbols of an image → engine, device where it works: "cpu" or a torch device string)."""
    coder, gpu = coder_module(name), _gpu(device)
    if engine is not None and engine not in ENGINES:
        raise SpicError(f"unknown coder device {engine!r}, choose from {', '.join(ENGINES)}")
    if _gpu_wanted(name, gpu, engine):
        gpu = gpu or "cuda"
        return lambda n_symbols: coder.gpu_engine(coder.prepare(table.distributions, n_symbols), gpu), gpu
    if numba_is_missing():
        return lambda n_symbols: PlainEngine(coder, table), "cpu"
    return lambda n_symbols: coder.cpu_engine(coder.prepare(table.distributions, n_symbols), threads), "cpu"


def _gpu(device) -> str | None:
    """The GPU among devices, as text, or None for any other device."""
    return str(device) if str(device).partition(":")[0] == "cuda" else None


def _gpu_wanted(name: str, gpu: str | None, engine: str | None) -> bool:
    if engine == "cpu" or (engine is None and gpu is None):
        return False
    trouble = gpu_trouble(name, gpu or "cuda")
    if trouble and engine == "gpu":
        raise SpicError(f"--coder_device gpu: {trouble}; use --coder_device cpu")
    if trouble:
        warnings.warn(f"coding on the CPU: {trouble}", RuntimeWarning, stacklevel=4)
    return not trouble


@lru_cache
def gpu_trouble(name: str, device: str) -> str | None:
    """Why the GPU engine cannot be used here, or None once it has coded a few images like the reference."""
    try:
        import torch
    except ImportError:
        return "it needs torch, which is not installed here"
    if not torch.cuda.is_available():
        return "torch sees no GPU on this machine"
    try:
        wrong = not proves_itself(name, device)
    except Exception as error:  # Triton absent, without a compiler for its launcher, or an unsupported GPU
        return f"its kernels do not run here ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    return "its kernels give wrong results here" if wrong else None


def proves_itself(name: str, device: str) -> bool:
    """Three images, escapes among them, coded as the reference codes them, and decoded again."""
    coder, table = coder_module(name), FrequencyTable({0: 900, 1: 90, 2: 9, 5: 1}, 1.0)
    rows = [[0] * 40, [0, 1, 2, 5, 3, 1 << 20, 0, 1] * 5, [2, 2, 0, 7, 70000] * 8]
    selector = table.selector((40,))
    engine = coder.gpu_engine(coder.prepare(table.distributions, 40), device)
    payloads = engine.encode(engine.matrix(np.array(rows, np.int32)), selector)
    expected = [coder.encode(table, selector, row) for row in rows]
    matrix, status = engine.decode(payloads, selector)
    return payloads == expected and not status.any() and matrix.tolist() == rows
