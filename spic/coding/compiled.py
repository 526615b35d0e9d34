"""numba for the CPU engines: compiled at first use, cached on disk where possible, free of the interpreter lock."""

from __future__ import annotations

from numba import njit

inlined = njit
"""A helper of kernels; LLVM makes it part of each kernel that calls it."""


def kernel(function):
    """Compile a kernel lazily; without any writable cache folder it is compiled anew in each process."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)
