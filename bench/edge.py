"""The edge half on a CPU, one picture at a time, one thread: torch, ONNX, ONNX in whole numbers; coders without numba.

    python bench/edge.py
    python bench/edge.py --networks narrow:resnet50/0.5 --after layer3.4 --output edge.json
    python bench/edge.py --networks timm:tf_efficientnet_lite0 --after global_pool blocks.5.2 blocks.4.1 --form linear --channels 192

Weights are random. Each runs in a process of its own, and they take turns, so that what else the machine does hits all
alike. Milliseconds are the median of the processor's time (and of the clock's); MB is what the process holds at most,
imports included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

from spic.commands import Parser, guarded, positive
from spic.errors import SpicError
from spic.files import check_writable, write_json

NETWORKS = ("narrow:resnet50/0.5", "narrow:resnet50/1")
CALIBRATION = 8
"""Pictures (noise) that set the scales of the whole numbers: enough for times, too few for answers."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("bench/edge.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--networks", nargs="+", default=list(NETWORKS))
    add("--after", nargs="+", default=["layer4.2"], help="the cuts; S1 of the classification benchmarks")
    add("--channels", type=positive, default=16)
    add("--form", default="separable", help="of the bottleneck")
    add("--rounds", type=positive, default=15, help="turns that each takes")
    add("--output", type=Path, help="JSON with the rows")
    return parser.parse_args(argv)


def make_half(network: str, after: str, channels: int, form: str):
    """(front, encoder and quantiser, example) with random weights, folded as the edge folds them."""
    import torch
    from torch import nn

    from spic.bottleneck import CLOSED, make_bottleneck
    from spic.export.models import Symbols
    from spic.networks import zoo
    from spic.networks.cut import cut, single
    from spic.networks.fold import fold_batch_norm
    from spic.training.jobs import default_stride

    entry = zoo.find(network)
    example = torch.randn(1, 3, *entry.preparation.image_size, generator=torch.Generator().manual_seed(0))
    front, _, frontier = cut(entry.build(weights="random").requires_grad_(False), after, example)
    shape = single(frontier).shape
    stride = 1 if form in CLOSED else default_stride(shape)
    encoder = make_bottleneck(shape, channels, stride, form=form).eval().requires_grad_(False).encoder
    ready = (fold_batch_norm(part).to(memory_format=torch.channels_last) for part in (front, encoder))
    front, encoder = ready
    return front, nn.Sequential(encoder, Symbols(0.5)), example


def export(network: str, after: str, channels: int, form: str, folder: Path) -> None:
    """front.onnx, whole.onnx and encoder.onnx."""
    import numpy as np
    import torch

    from spic.export import models

    front, encoder, example = make_half(network, after, channels, form)
    model = models.to_onnx(front, example, network)
    with torch.inference_mode():
        feature = front(example)
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(tuple(example.shape), np.float32) for _ in range(CALIBRATION)]
    for name, content in (("front", model), ("whole", models.quantised(model, noise, network)),
                          ("encoder", models.to_onnx(encoder, feature, network))):
        (folder / f"{name}.onnx").write_bytes(content)


def by_torch(network: str, after: str, channels: int, form: str, folder: Path):
    """A call that does one picture."""
    import torch

    torch.set_num_threads(1)
    front, encoder, example = make_half(network, after, channels, form)
    example = example.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def once():
        encoder(front(example))
    return once


def by_onnx(front: str):
    def make(network: str, after: str, channels: int, form: str, folder: Path):
        import numpy as np

        from spic.edge.runtime import session

        chain = [session((folder / f"{name}.onnx").read_bytes(), 1, name) for name in (front, "encoder")]
        example = np.zeros([int(side) for side in chain[0].get_inputs()[0].shape], np.float32)

        def once():
            value = example
            for run in chain:
                (value,) = run.run(None, {run.get_inputs()[0].name: value})
        return once
    return make


RUNTIMES = {"torch": by_torch, "ONNX": by_onnx("front"), "ONNX int8": by_onnx("whole")}


def serve(pipe, runtime: str, words: tuple) -> None:
    """A process that does one picture whenever it is asked, and says what that took; at the end, its memory."""
    once = RUNTIMES[runtime](*words)
    once(), once()
    while pipe.recv():
        clock, processor = time.perf_counter(), time.process_time()
        once()
        pipe.send((1e3 * (time.process_time() - processor), 1e3 * (time.perf_counter() - clock)))
    pipe.send(most_mb())


def most_mb() -> float:
    """The most memory that this process held; getrusage would count what its parent held, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def compare(network: str, after: str, channels: int, form: str, rounds: int) -> list[dict]:
    """A row for each runtime."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        words = (network, after, channels, form, Path(name))
        exporting = context.Process(target=export, args=words)  # the exporter's memory is nobody's on the edge
        exporting.start()
        exporting.join()
        if exporting.exitcode:
            raise SpicError(f"{network} after {after}: the export ended with {exporting.exitcode}, for the reason above")
        pipes, processes = {}, []
        for runtime in RUNTIMES:
            pipes[runtime], theirs = context.Pipe()
            processes.append(context.Process(target=serve, args=(theirs, runtime, words), daemon=True))
            processes[-1].start()
        times = {runtime: [] for runtime in RUNTIMES}
        for _ in range(rounds):
            for runtime, pipe in pipes.items():
                pipe.send(True)
                times[runtime].append(pipe.recv())
        rows = []
        for runtime, pipe in pipes.items():
            pipe.send(False)
            processor, clock = (statistics.median(values) for values in zip(*times[runtime]))
            rows.append({"after": after, "runtime": runtime, "ms": processor, "clock_ms": clock, "mb": pipe.recv()})
        for process in processes:
            process.join()
    return [row | {"of_torch": rows[0]["ms"] / row["ms"]} for row in rows]


# ---- coders -------------------------------------------------------------------------------------------------------

FEATURES = {"S1, classification": (8, 4, 4), "S3, classification": (12, 7, 7), "S3, segmentation": (12, 32, 32)}
"""Symbols of one picture of the scenes."""


def code(pipe, plain: bool) -> None:
    """Milliseconds of encoding a picture, by feature and coder."""
    if plain:
        sys.modules["numba"] = None  # as where it is not installed
    import numpy as np

    from spic.coding import CODERS, FrequencyTable, make_coder

    counts = {symbol: 1 << 20 - 2 * symbol for symbol in range(10)}
    rng, shares = np.random.default_rng(0), np.array(list(counts.values())) / sum(counts.values())
    found = {}
    for feature, shape in FEATURES.items():
        symbols = rng.choice(len(counts), (1, *shape), p=shares)
        for name in CODERS:
            coder, times = make_coder(name, FrequencyTable(counts, 0.5)), []
            for _ in range(12):
                start = time.process_time()
                coder.encode(symbols)
                times.append(1e3 * (time.process_time() - start))
            found[f"{feature}, {name}"] = statistics.median(times[2:])
    pipe.send(found)


def coders() -> list[dict]:
    """A row for each feature and coder."""
    context, found = multiprocessing.get_context("spawn"), []
    for plain in (False, True):
        ours, theirs = context.Pipe()
        process = context.Process(target=code, args=(theirs, plain))
        process.start()
        found.append(ours.recv())
        process.join()
    return [{"what": what, "numba_ms": found[0][what], "plain_ms": found[1][what]} for what in found[0]]


def _run(args: argparse.Namespace) -> None:
    from machine import describe  # late: it loads torch, and the processes that measure import this file

    check_writable(args.output)
    rows = []
    for network in args.networks:
        print(network)
        print(f"{'after':<22}{'runtime':<12}{'ms':>9}{'clock ms':>10}{'MB':>8}  torch is slower by")
        for row in (row for after in args.after for row in compare(network, after, args.channels, args.form, args.rounds)):
            rows.append({"network": network} | row)
            print(f"{row['after']:<22}{row['runtime']:<12}{row['ms']:>9.1f}{row['clock_ms']:>10.1f}{row['mb']:>8.0f}  "
                  f"{row['of_torch']:.2f}", flush=True)
    print(f"{'encoding a picture':<34}{'numba ms':>10}{'plain ms':>10}")
    coding = coders()
    for row in coding:
        print(f"{row['what']:<34}{row['numba_ms']:>10.3f}{row['plain_ms']:>10.3f}")
    if args.output:
        write_json(args.output, {"machine": describe(), "rows": rows, "coding": coding})


if __name__ == "__main__":
    arguments = parse()
    sys.exit(guarded(lambda: _run(arguments)))
