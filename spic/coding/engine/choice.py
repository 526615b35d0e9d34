"""Which engine codes: the GPU's for symbols on a GPU where its kernels prove themselves, else the CPU's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from spic.coding import reference
from spic.coding.frequency import FrequencyTable
from spic.coding.huffman import HuffmanTables
from spic.coding.rans import RansTables
from spic.errors import SpicError

TABLES = {
    "huffman": lambda distributions, n_symbols: HuffmanTables(distributions),
    "rans": RansTables,
}
"""What each coder precomputes from the distributions of a table, for images of n_symbols."""
REFERENCE = {"huffman": reference.huffman_encode, "rans": reference.rans_encode}
ENGINES = ("cpu", "gpu")


def engine_maker(
    name: str, table: FrequencyTable, device: torch.device, engine: str | None, threads: int | None
) -> Callable:
    """number of symbols of an image → engine.  engine: "cpu", "gpu", or None to choose by the device of the symbols."""
    if engine is not None and engine not in ENGINES:
        raise SpicError(f"unknown coder device {engine!r}, choose from {', '.join(ENGINES)}")
    on_gpu = _gpu_wanted(name, device, engine)
    make = gpu_engine if on_gpu else cpu_engine
    place = _gpu(device) if on_gpu else threads
    return lambda n_symbols: make(name, TABLES[name](table.distributions, n_symbols), place)


def _gpu_wanted(name: str, device: torch.device, engine: str | None) -> bool:
    if engine == "cpu" or (engine is None and device.type != "cuda"):
        return False
    trouble = gpu_trouble(name, _gpu(device))
    if trouble and engine == "gpu":
        raise SpicError(f"--coder_device gpu: {trouble}; use --coder_device cpu")
    if trouble:
        warnings.warn(f"coding on the CPU: {trouble}", RuntimeWarning, stacklevel=3)
    return not trouble


def _gpu(device: torch.device) -> torch.device:
    return device if device.type == "cuda" else torch.device("cuda")


def cpu_engine(name: str, tables, threads: int | None):
    from spic.coding.engine.huffman_cpu import HuffmanCpu
    from spic.coding.engine.rans_cpu import RansCpu

    return {"huffman": HuffmanCpu, "rans": RansCpu}[name](tables, threads)


def gpu_engine(name: str, tables, device: torch.device):
    from spic.coding.engine.huffman_gpu import HuffmanGpu
    from spic.coding.engine.rans_gpu import RansGpu

    return {"huffman": HuffmanGpu, "rans": RansGpu}[name](tables, device)


@lru_cache
def gpu_trouble(name: str, device: torch.device) -> str | None:
    """Why the GPU engine cannot be used here, or None once it has coded a few images like the reference."""
    if not torch.cuda.is_available():
        return "torch sees no GPU on this machine"
    try:
        wrong = not proves_itself(name, device)
    except Exception as error:  # Triton absent, without a compiler for its launcher, or an unsupported GPU
        return f"its kernels do not run here ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    return "its kernels give wrong results here" if wrong else None


def proves_itself(name: str, device: torch.device) -> bool:
    """Three images, escapes among them, coded as the reference codes them, and decoded again."""
    table = FrequencyTable({0: 900, 1: 90, 2: 9, 5: 1}, 1.0)
    rows = [[0] * 40, [0, 1, 2, 5, 3, 1 << 20, 0, 1] * 5, [2, 2, 0, 7, 70000] * 8]
    contexts = np.zeros(40, np.int32)
    engine = gpu_engine(name, TABLES[name](table.distributions, 40), device)
    payloads = engine.encode(torch.tensor(rows, dtype=torch.int32, device=device), contexts)
    expected = [REFERENCE[name](table, contexts.tolist(), row) for row in rows]
    matrix, status = engine.decode(payloads, contexts)
    return payloads == expected and not status.any() and matrix.tolist() == rows
