"""What an import really loads, seen in a fresh interpreter."""

import json
import subprocess
import sys

import numpy as np
import pytest

from spic.coding import FrequencyTable, make_coder

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


@pytest.mark.parametrize("module", ["spic.protocol", "spic.datasets.pictures", "spic.edge.bundle", "spic.edge.runtime",
                                    "spic.edge.command"])
def test_the_edge_loads_no_torch_and_nothing_that_comes_with_it(module):
    assert not loaded(f"import {module}") & {"torch", "torchvision", "triton", "numba", "scipy", "matplotlib", "yaml",
                                             "omegaconf",
                                             "safetensors", "onnxruntime", "urllib3", "av"}


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


WITHOUT_NUMBA = """
import sys
sys.modules["torch"] = sys.modules["numba"] = None
import numpy as np, pytest
from spic.coding import FrequencyTable, make_coder
from spic.errors import StreamError
symbols = (np.arange(2 * 3 * 4 * 4, dtype=np.int32).reshape(2, 3, 4, 4) * 7 % 11) ** 2
table = FrequencyTable.from_symbols(symbols[:1] // 2, step=0.5, kind="channel")
for name in ("huffman", "rans"):
    coder = make_coder(name, table)
    payloads = coder.encode(symbols)
    print("payload", payloads[0].hex(), payloads[1].hex())
    assert (coder.decode(payloads, symbols.shape[1:]) == symbols).all()
    with pytest.raises(StreamError, match="image 1 of 2: payload is damaged"):
        coder.decode([payloads[0], payloads[1][:-2]], symbols.shape[1:])
"""


def test_without_numba_the_same_bytes_come_slowly_and_one_line_says_so():
    """The CPU engines of this process give the bytes to compare with."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "pip install numba" in done.stderr
    symbols = (np.arange(2 * 3 * 4 * 4, dtype=np.int32).reshape(2, 3, 4, 4) * 7 % 11) ** 2
    table = FrequencyTable.from_symbols(symbols[:1] // 2, step=0.5, kind="channel")
    coded = [" ".join(payload.hex() for payload in make_coder(name, table).encode(symbols)) for name in ("huffman", "rans")]
    assert done.stdout.splitlines() == [f"payload {text}" for text in coded]
