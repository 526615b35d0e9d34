"""What an import really loads, seen in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "triton", "numba", "llvmlite", "scipy", "matplotlib", "PIL"}


def loaded(code: str) -> set[str]:
    """Top-level modules that are there after ``code``."""
    told = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + told], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ["spic", "spic.coding", "spic.coding.stream", "spic.files", "spic.errors"])
def test_what_an_edge_needs_loads_neither_torch_nor_a_compiler(module):
    assert not loaded(f"import {module}") & HEAVY


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["nonsense"]])
def test_command_answers_before_it_loads_anything_heavy(words):
    code = f"from spic.cli import main\ntry: main({words})\nexcept SystemExit: pass"
    assert not loaded(code) & (HEAVY | {"numpy", "yaml"})


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it fails, as where it is not installed
import numpy as np
from spic.coding import FrequencyTable, make_coder
from spic.coding.stream import StreamHeader
symbols = np.arange(2 * 3 * 4 * 4, dtype=np.int32).reshape(2, 3, 4, 4) % 5
for name in ("huffman", "rans"):
    coder = make_coder(name, FrequencyTable.from_symbols(symbols, step=0.5))
    assert (coder.decode(coder.encode(symbols), symbols.shape[1:]) == symbols).all()
"""


def test_coders_work_where_torch_is_not_installed():
    assert "numba" in loaded(WITHOUT_TORCH)
