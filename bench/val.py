"""What val.py's road costs, as ratios measured in one run: against the network alone, and against the published way.

    python bench/val.py --split_point S1 --compress_factor 0
    python bench/val.py --benchmark imagenet --backbone_weights random --batch_size 16 --threads 2

All loops take the same images from memory, in the same batches, and take turns, so that a busy machine disturbs all
alike: the uncompressed network; the split network with its bottleneck but no coder; the road of val.py (front, encoder,
coding, frames, decoding, decoder, back, checks and counts) with either coder, in fp32 and in bf16; and the published
way: contiguous fp32 tensors, symbols coded one by one in Python, nothing decoded.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path

import torch
from codec import PythonHuffman
from machine import describe
from tqdm import tqdm

from spic.benchmarks import Benchmark, find
from spic.files import check_writable
from spic.commands import Parser, boolean, guarded, pick_device, positive, weights_file
from spic.evaluate import Settings, Stretch, lay_roads
from spic.networks import cut, trace
from spic.networks.fold import fold_batch_norm
from spic.parts import load_bottleneck, load_table
from spic.points import DICT_FILE, load_points, select
from spic.quantize import dequantize, quantize
from spic.tasks import TASKS


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--task", default="classification", choices=TASKS)
    add("--benchmark", default="scenes")
    add("--split_point", default="S1")
    add("--compress_factor", default="0")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml")
    add("--backbone_weights", type=weights_file, metavar="FILE|random", help="a state dict (default: the shipped or official one)")
    add("--batch_size", type=positive, default=32)
    add("--batches", type=positive, default=4, help="per turn")
    add("--rounds", type=positive, default=7)
    add("--threads", type=positive, help="threads of torch (default: all cores)")
    add("--gpu", type=boolean, default=False)
    add("--output", type=Path)
    return parser.parse_args(argv)


def split_forward(stretch: Stretch, images: torch.Tensor) -> torch.Tensor:
    """The split network with its bottleneck, without a coder."""
    edge, cloud = stretch.roads[0].edge, stretch.roads[0].cloud
    coded, uncoded = edge.adapter.parts(stretch.front(images))
    decoded = cloud.decoder.place(cloud.decoder(dequantize(quantize(edge.encoder(coded), edge.step), cloud.step)))
    return cloud.back(cloud.adapter.join(decoded, uncoded))


def published_way(benchmark: Benchmark, plain, point, images: torch.Tensor) -> dict:
    """The loop of the published scripts: contiguous tensors, BatchNorm on its own, a Python coder, nothing decoded."""
    images = images.contiguous()
    front, back, _ = cut(plain, benchmark.cut_after(point), images[:1])
    adapter = benchmark.adapter(point)
    coded, _ = adapter.parts(front(images[:1]))
    bottleneck = load_bottleneck(point, benchmark, tuple(coded.shape[1:]), tuple(images.shape[-2:]))
    table = load_table(point)
    coder = PythonHuffman(table)
    known = torch.tensor(list(table.counts))

    def loop() -> None:
        coded, uncoded = adapter.parts(front(images))
        symbols = quantize(bottleneck.encoder(coded), point.step)
        decoded = bottleneck.decoder.place(bottleneck.decoder(dequantize(symbols, point.step)))
        back(adapter.join(decoded, uncoded)).argmax(1)
        symbols = symbols.cpu()
        coder.encode(torch.where(torch.isin(symbols, known), symbols, 0).flatten(1).numpy())  # it has no escape

    return {"published way": loop}


def loops(benchmark: Benchmark, args: argparse.Namespace) -> dict:
    """Name -> what to time."""
    device = pick_device(args.gpu)
    points = select(load_points(args.points.resolve()), args.task, args.benchmark, [args.split_point], [args.compress_factor])
    plain = build(benchmark, args.backbone_weights).to(device)
    size = benchmark.image_size
    network = fold_batch_norm(trace(copy.deepcopy(plain), torch.zeros(1, 3, *size))).to(memory_format=torch.channels_last)
    images = torch.randn(args.batch_size, 3, *size, generator=torch.Generator().manual_seed(0))
    images = images.to(device, memory_format=torch.channels_last)
    targets = torch.zeros(args.batch_size, *(() if args.task == "classification" else size), dtype=torch.int64)
    roads = {coder: lay_roads(benchmark, network, points, size, Settings(coder, device=device))[0]
             for coder in ("huffman", "rans")}

    names = [str(i) for i in range(args.batch_size)]

    def road(stretch: Stretch, amp: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            stretch.roads[0].travel(stretch.front(images), targets, None, names, plain=[{}] * len(names))

    timed = {"uncompressed network": lambda: network(images),
             "split network, no coding": lambda: split_forward(roads["rans"], images)}
    timed |= {f"road, {coder}{', bf16' * amp}": lambda s=stretch, a=amp: road(s, a)
              for amp in (False, True) for coder, stretch in roads.items()}
    return timed | published_way(benchmark, plain, points[0], images)


def build(benchmark: Benchmark, file: Path | str | None):
    """The network with real weights, or with random ones where only time matters (BatchNorm fitted to noise)."""
    if file != "random":
        return benchmark.build_network(file)
    torch.manual_seed(0)
    network = benchmark.build_network("random")
    network.train()(torch.randn(8, 3, 128, 128))
    return network.eval()


def take_turns(timed: dict, batches: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each loop in each round; a first round warms up and does not count."""
    seconds = {name: [] for name in timed}
    for _ in tqdm(range(rounds + 1), "rounds"):
        for name, loop in timed.items():
            start = time.perf_counter()
            for _ in range(batches):
                loop()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


@torch.inference_mode()
def _run(args: argparse.Namespace) -> None:
    check_writable(args.output)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    seconds = take_turns(loops(find(args.task, args.benchmark), args), args.batches, args.rounds)
    images = args.batches * args.batch_size
    rows = {name: {"images_per_second": images / statistics.median(values),
                   "over_split_network": _ratio(values, seconds["split network, no coding"]),
                   "faster_than_published": _ratio(seconds["published way"], values)}
            for name, values in seconds.items()}
    point = f"{args.task}/{args.benchmark}/{args.split_point}/{args.compress_factor}"
    print(f"{point}, batches of {args.batch_size}")
    print(f"{'':<28}{'images/s':>10}{'time / split network':>22}{'speed / published':>19}")
    for name, (rate, time_ratio, speed) in ((name, row.values()) for name, row in rows.items()):
        print(f"{name:<28}{rate:>10.1f}{time_ratio:>22.3f}{speed:>19.2f}")
    if args.output:
        args.output.write_text(json.dumps({"machine": describe(), "point": point, "rows": rows}, indent=2) + "\n")


def _ratio(values: list[float], reference: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, reference))


if __name__ == "__main__":
    arguments = parse()
    raise SystemExit(guarded(lambda: _run(arguments)))
