"""The GPU engines without a GPU: Triton's interpreter runs their kernels on CPU tensors, its compiler makes them for
a GPU."""

import importlib
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from coding_cases import draw

from spic.coding import CODERS, FrequencyTable, make_coder
from spic.errors import SpicError

triton = pytest.importorskip("triton", reason="this torch comes without Triton")

INTERPRETED = """
import numpy as np
from coding_cases import CONTEXT, draw
from spic.coding import CODERS, Coder, FrequencyTable, make_coder
from spic.coding.engine import coder_module, proves_itself

tables = {
    "short codes": FrequencyTable({0: 5000, 1: 2000, 2: 700, 3: 100, 40: 3}, 1.0),
    "long codes": FrequencyTable({s: 3**s for s in range(25)}, 1.0),
    "one symbol": FrequencyTable({3: 1}, 1.0),
    "per channel": FrequencyTable([{0: 5, 1: 5}, {3: 1}, {0: 1, 7: 1000, 8: 100}], 1.0, np.arange(3).reshape(3, 1, 1)),
    "contexts": CONTEXT,
}
shape = (3, 4, 3)
for label, table in tables.items():
    symbols = draw(table, 5, shape)
    symbols[1, :, ::2] = np.random.default_rng(1).integers(0, 1 << 24, (3, 2, 3))  # escapes
    for name in CODERS:
        coder = coder_module(name)
        assert proves_itself(name, "cpu"), name
        gpu = Coder(name, table, lambda n: coder.gpu_engine(coder.prepare(table.distributions, n), "cpu"))
        payloads = make_coder(name, table).encode(symbols)
        assert gpu.encode(symbols) == payloads, (label, name)
        assert (gpu.decode(payloads, shape).numpy() == symbols).all(), (label, name)
        flipped = [bytes(p[:-1]) + bytes([p[-1] ^ 16]) if p else b"x" for p in payloads[:2]]
        damaged = [*flipped, payloads[2], b"", b"\\0" * 9]
        _, expected = make_coder(name, table)._engine(36).decode(damaged, table.selector(shape))
        _, found = gpu._engine(36).decode(damaged, table.selector(shape))
        assert ((expected == 0) == (found == 0)).all(), (label, name, expected, found)
        assert gpu.encode(symbols[:0]) == [] and gpu.encode(symbols[:, :, :0]) == [b""] * 5
print("alike")
"""


def test_interpreted_gpu_kernels_give_the_bytes_of_the_cpu_engine():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(command, env=environment, cwd=os.path.dirname(__file__), capture_output=True, text=True)
    assert done.stdout == "alike\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's NVIDIA compiler comes for Linux")
@pytest.mark.parametrize("name", CODERS)
def test_gpu_kernels_compile_for_a_gpu(name):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"spic.coding.{name}.gpu")
    pointers = {"buffer": "*u8", "out": {"huffman": "*i32", "rans": "*u8"}[name]}
    pointers |= dict.fromkeys(("symbols", "contexts", "slots", "status", "words", "values"), "*i32")
    pointers |= {**dict.fromkeys(("first", "bias", "choices", "neighbours"), "*i32"), "classes": "*u8", "nearby": "*i64"}
    pointers |= dict.fromkeys(("entries", "starts", "stops", "codes", "bounds", "sizes"), "*i64")
    pointers["lookup"] = {"huffman": "*i32", "rans": "*i64"}[name]
    for kernel in (module._encode, module._decode):
        constants = {"LANES": 2, "ADAPTIVE": True}
        signature = {a: "constexpr" if a in constants else pointers.get(a, "i32") for a in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs={a: constants[a] for a in kernel.arg_names if a in constants})
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["cubin"]


@pytest.mark.parametrize("fits", [1, 3, 100])
def test_a_gpu_without_memory_codes_smaller_batches_and_says_so(fits):
    from spic.coding.gpu import GpuEngine

    class Small(GpuEngine):
        def _encode(self, matrix, contexts):
            if len(matrix) > fits:
                raise torch.OutOfMemoryError
            return [bytes(row.tolist()) for row in matrix]

    engine, selector = Small(torch.device("cpu")), FrequencyTable({0: 1}, 1.0).selector((2,))
    matrix = torch.arange(14, dtype=torch.int32).reshape(7, 2)
    with pytest.warns(RuntimeWarning, match="smaller batches") if fits < 7 else nullcontext():
        assert engine.encode(matrix, selector) == [bytes(row.tolist()) for row in matrix]
    fits = 0
    with pytest.warns(RuntimeWarning), pytest.raises(SpicError, match="--coder_device cpu"):
        engine.encode(matrix, selector)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_forcing_the_gpu_where_there_is_none_is_one_clear_error():
    with pytest.raises(SpicError, match="sees no GPU"):
        make_coder("rans", FrequencyTable({0: 1}, 1.0), engine="gpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CODERS)
def test_cpu_and_gpu_code_alike_on_a_real_gpu(name):
    table = FrequencyTable({0: 5000, 1: 2000, 2: 700, 3: 100, 40: 3}, 1.0)
    symbols = torch.from_numpy(draw(table, 300, (5, 100)))
    symbols[3, 0, ::7] = 70000
    gpu = make_coder(name, table, engine="gpu", device="cuda")
    payloads = make_coder(name, table).encode(symbols)
    assert gpu.encode(symbols.cuda()) == payloads
    assert gpu.decode(payloads, (5, 100)).cpu().equal(symbols)
