"""Coding throughput, in million symbols a second, and bytes against the table's cross-entropy; every codec in the
same run.

    python bench/codec.py --output codec.json

Ours run on one thread and on all of them (and on the GPU where there is one), and with a context table on symbols that
depend on each other; beside them a Huffman coder written as a
plain Python loop over dictionaries, as the published code has it, and the coders of constriction and torchac where
those packages are installed. Each cell is the best of several runs on fresh results; the symbols are drawn from the
table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from machine import describe
from tqdm import tqdm

from spic.commands import Parser, guarded, natural, positive
from spic.files import check_writable
from spic.coding import FrequencyTable, make_coder
from spic.coding.huffman import END, huffman_code

# Close to the published tables: geometric, 2 bits a symbol, long tail.
DEFAULT_TABLE = FrequencyTable({s: max(1, int(3e8 * 0.48**s)) for s in range(22)}, 1.0)
OPTIONAL = {"constriction": "pip install constriction", "torchac": "pip install torchac (compiles C++ on first use)"}
SECONDS = 0.3
"""Time given to each cell beyond its first run."""


@dataclass(frozen=True)
class Codec:
    """encode: int32 symbols [B, N] → payloads; decode: payloads, N → symbols. most: symbols it is given at most, for
    slow ones."""

    name: str
    encode: Callable
    decode: Callable
    most: int | None = None


def ours(table: FrequencyTable, device: str, threads: int | None, suffix: str) -> list[Codec]:
    coders = {name: make_coder(name, table, device=device, threads=threads) for name in ("huffman", "rans")}
    return [Codec(f"{name}, {suffix}", lambda s, c=c: c.encode(s if c.device == "cpu" else torch.as_tensor(s, device=device)),
                  lambda p, n, c=c: c.decode(p, (n,))) for name, c in coders.items()]  # fmt: skip


class PythonHuffman:
    """Symbol by symbol through a dictionary, bit by bit back, as the published code has it: its symbols are dequantised
    float32 values, and every decoded one is compared with an end-of-file object."""

    end_of_file = object()

    def __init__(self, table: FrequencyTable):
        codes = huffman_code(table.counts)
        self.codes = {self.end_of_file if s == END else np.float32(s): code for s, code in codes.items()}

    def encode(self, symbols: np.ndarray) -> list[bytes]:
        return [bytes(self._bytes(image)) for image in symbols.astype(np.float32)]

    def _bytes(self, values: np.ndarray):
        held, count = 0, 0
        for value in values:
            length, code = self.codes[value]
            held, count = (held << length) + code, count + length
            while count >= 8:
                count -= 8
                yield held >> count
                held &= (1 << count) - 1
        if count:
            length, code = self.codes[self.end_of_file]
            held, count = (held << length) + code, count + length
            yield held >> count - 8 if count >= 8 else held << 8 - count

    def decode(self, payloads: list[bytes], n: int) -> np.ndarray:
        values = {code: value for value, code in self.codes.items()}
        return np.array([list(self._values(payload, values, n)) for payload in payloads]).astype(np.int32)

    def _values(self, payload: bytes, values: dict, n: int):
        held, count, found = 0, 0, 0
        for byte in payload:
            for bit in (128, 64, 32, 16, 8, 4, 2, 1):
                held, count = (held << 1) + bool(byte & bit), count + 1
                if (count, held) in values:
                    value = values[count, held]
                    if value == self.end_of_file or found == n:
                        return
                    yield value
                    held, count, found = 0, 0, found + 1


def probabilities(table: FrequencyTable) -> np.ndarray:
    counts = table.dense_counts()[0].astype(np.float64)
    return counts / counts.sum()


def constriction_codecs(table: FrequencyTable) -> list[Codec]:
    stream = importlib.import_module("constriction").stream
    model = stream.model.Categorical(probabilities(table), perfect=False)

    def ans_encode(image):
        coder = stream.stack.AnsCoder()
        coder.encode_reverse(image, model)
        return coder.get_compressed().tobytes()

    def range_encode(image):
        coder = stream.queue.RangeEncoder()
        coder.encode(image, model)
        return coder.get_compressed().tobytes()

    def decode(make, payloads, n):
        return np.stack([make(np.frombuffer(p, np.uint32)).decode(model, n) for p in payloads])

    return [
        Codec("constriction AnsCoder", lambda s: [ans_encode(image) for image in s],
              lambda p, n: decode(stream.stack.AnsCoder, p, n)),
        Codec("constriction RangeEncoder", lambda s: [range_encode(image) for image in s],
              lambda p, n: decode(stream.queue.RangeDecoder, p, n)),
    ]  # fmt: skip


def torchac_codecs(table: FrequencyTable) -> list[Codec]:
    """torchac takes one cumulative distribution per symbol; the expanded views cost it no memory of ours."""
    torchac = importlib.import_module("torchac")
    cumulative = torch.tensor(np.concatenate([[0], np.cumsum(probabilities(table))]), dtype=torch.float32).clamp(max=1)

    def encode(symbols):
        cdf = cumulative.expand(symbols.shape[1], -1).contiguous()
        return [torchac.encode_float_cdf(cdf, torch.from_numpy(image.astype(np.int16))) for image in symbols]

    def decode(payloads, n):
        cdf = cumulative.expand(n, -1).contiguous()
        return torch.stack([torchac.decode_float_cdf(cdf, payload) for payload in payloads]).numpy()

    return [Codec("torchac", encode, decode, most=1 << 19)]


def all_codecs(table: FrequencyTable) -> tuple[list[Codec], list[str]]:
    """Every codec that can run here, and what is missing."""
    codecs, missing = ours(table, "cpu", 1, "1 thread"), []
    if torch.get_num_threads() > 1:
        codecs += ours(table, "cpu", None, f"{torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        codecs += ours(table, "cuda", None, "GPU")
    else:
        missing.append("GPU engines: not measured, torch sees no GPU")
    loop = PythonHuffman(table)
    codecs.append(Codec("huffman, Python loop", loop.encode, loop.decode, most=1 << 15))
    for package, make in (("constriction", constriction_codecs), ("torchac", torchac_codecs)):
        try:
            codecs += make(table)
        except Exception as error:  # a package that is absent, or does not build or run here
            missing.append(f"{package}: not measured ({type(error).__name__}); {OPTIONAL[package]}")
    return codecs, missing


def draw(table: FrequencyTable, batch: int, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.choice(table.width, (batch, n), p=probabilities(table)).astype(np.int32)


def correlated(images: int, n: int, seed: int) -> np.ndarray:
    """Symbols int32 [images, n / 64, 8, 8] of channels that are busy at the same places."""
    rng, channels = np.random.default_rng(seed), n // 64
    y, x = np.mgrid[:8, :8]
    where = rng.uniform(0, 8, (2, images, 1, 1, 1))
    near = np.exp(-((y - where[0]) ** 2 + (x - where[1]) ** 2) / 8)
    scale = np.random.default_rng(0).gamma(1.0, 1.5, (channels, 1, 1))
    return rng.poisson(scale * near + 0.02).astype(np.int32)


def context_rows(n: int, batch: int, seed: int) -> list[dict]:
    """Rows of both coders with a table fitted to other images of the same source; none where n is no multiple of 64."""
    if n % 64:
        return []
    table, symbols = FrequencyTable.from_symbols(correlated(500, n, seed), 1.0, "context"), correlated(batch, n, seed + 1)
    return [measure(Codec(f"{name}, contexts, 1 thread", coder.encode, lambda p, _, c=coder: c.decode(p, symbols.shape[1:])),
                    table, symbols)
            for name, coder in ((name, make_coder(name, table, threads=1)) for name in ("huffman", "rans"))]


def best_time(action: Callable) -> tuple[float, object]:
    """Seconds of the fastest of at least three runs, and the last result."""
    action()
    best, runs, end = float("inf"), 0, time.perf_counter() + SECONDS
    while runs < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        result = action()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best, result


def measure(codec: Codec, table: FrequencyTable, symbols: np.ndarray) -> dict:
    """One row: throughput both ways, bytes per image, and by how much they exceed the bound."""
    if codec.most:
        symbols = symbols[: max(1, codec.most // symbols.shape[1])]
    encode_s, payloads = best_time(lambda: codec.encode(symbols))
    decode_s, decoded = best_time(lambda: codec.decode(payloads, symbols.shape[1]))
    if not (np.asarray(torch.as_tensor(decoded).cpu()) == symbols).all():
        raise AssertionError(f"{codec.name} does not decode what it encoded")
    size = sum(map(len, payloads)) / len(symbols)
    bound = table.cross_entropy(symbols) / 8 / len(symbols)
    return {
        "codec": codec.name,
        "encode_msym_s": symbols.size / encode_s / 1e6,
        "decode_msym_s": symbols.size / decode_s / 1e6,
        "bytes_per_image": size,
        "excess_bytes_per_image": size - bound,
    }


def run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    table = FrequencyTable.load(args.table) if args.table else DEFAULT_TABLE
    codecs, missing = all_codecs(table)
    cells = [(n, batch) for n in args.symbols for batch in args.batches]
    rows = []
    for n, batch in tqdm(cells, desc="codec", unit="cell"):
        symbols = draw(table, batch, n, args.seed)
        measured = [*(measure(codec, table, symbols) for codec in codecs), *context_rows(n, batch, args.seed)]
        rows += [{"symbols": n, "batch": batch, **row} for row in measured]
    show(rows, table, missing)
    if args.output:
        report = {"machine": describe(), "entropy_bits": table.entropy, "rows": rows, "missing": missing}
        args.output.write_text(json.dumps(report, indent=1) + "\n")


def show(rows: list[dict], table: FrequencyTable, missing: list[str]) -> None:
    print(f"table of {table.entropy:.3f} bits a symbol; encode, decode: million symbols a second; "
          "excess: bytes an image over its cross-entropy")  # fmt: skip
    print(f"{'symbols':>8} {'batch':>5}  {'codec':<26} {'encode':>8} {'decode':>8} {'bytes':>9} {'excess':>7}")
    for r in rows:
        print(f"{r['symbols']:>8} {r['batch']:>5}  {r['codec']:<26} "
              f"{r['encode_msym_s']:>8.2f} {r['decode_msym_s']:>8.2f} "
              f"{r['bytes_per_image']:>9.1f} {r['excess_bytes_per_image']:>7.2f}")  # fmt: skip
    print(*missing, sep="\n")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, help="a shared frequency table (default: a geometric one of 1.8 bits)")
    several = {"type": positive, "nargs": "+"}
    parser.add_argument("--symbols", **several, default=[128, 2048, 16384], help="per image (default: %(default)s)")
    parser.add_argument("--batches", **several, default=[1, 32, 64, 256], help="images (default: %(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="of the symbols (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write everything as JSON")
    args = parser.parse_args(argv)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
