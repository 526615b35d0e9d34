"""The command behind Classification/train.py and Segmentation/train.py: one bottleneck for one network and one folder.

The output folder becomes a small root of its own, with dict.yaml, Weights/ and Freq_tab/, that val.py reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from spic import parallel
from spic.benchmarks import BENCHMARKS, EMBEDDED, PUBLISHED, find
from spic.bottleneck import make_bottleneck
from spic.commands import boolean, guarded, natural, pick_device, positive
from spic.coding.tables import KINDS
from spic.datasets.folder import Unlabelled
from spic.errors import SpicError
from spic.files import check_writable
from spic.networks import cut
from spic.points import SPLIT_POINTS
from spic.training.checkpoint import Run
from spic.training.features import FeatureSet, compute
from spic.networks.weights import fingerprint
from spic.training.fit import DISTORTIONS, Options, Trainee, fit, identity
from spic.training.outcome import write_outcome
from spic.training.parallel import cores
from spic.training.rate import ESTIMATORS
from spic.training.sources import SOURCES


def parse(task: str, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"Train a bottleneck for split {task}; the network stays.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--benchmark", help=f"network and data: {', '.join(name for t, name in BENCHMARKS if t == task)}; None: "
        f"{PUBLISHED[task]} with --data, else {EMBEDDED}")
    add("--data", type=Path, help="training data; for distill any folder of pictures, nested or flat")
    add("--backbone_weights", type=Path, help="a torchvision state dict; None: torchvision's or the shipped one")
    add("--split_point", choices=SPLIT_POINTS, default="S1", help="where to cut; US*: trained without labels")
    add("--compress_factor", type=natural, default=0, help="number that the point gets on its curve")
    add("--stride", type=positive, default=2, help="of the encoder")
    add("--channels", type=positive, default=64, help="that are coded")
    add("--step", type=float, default=0.5, help="of the quantiser")
    add("--lambda", type=float, default=10.0, dest="weight", metavar="LAMBDA", help="distortion (nats) a bpp may cost")
    add("--rate", choices=tuple(ESTIMATORS), default="table", help="estimator of the bits")
    add("--distortion", choices=DISTORTIONS, help="None: task for S*, distill for US*")
    add("--epochs", type=positive, default=12)
    add("--batch_size", type=positive, default=64)
    add("--lr", type=float, default=3e-3)
    add("--seed", type=int, default=0)
    add("--limit", type=positive, help="train on N pictures, evenly spread over the set")
    add("--tables", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of frequency tables to count for "
        "val.py --tables: one for all symbols (always), one per channel, one per channel and position")
    add("--gpu", type=boolean, default=False, metavar="True|False")
    add("--resume", action="store_true", help="go on with the run that the output folder holds")
    add("--output", type=Path, required=True, help="folder for weights, table, log and checkpoint")
    return parser.parse_args(argv)


def main(task: str, argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse(task, argv)
    return guarded(lambda: _run(task, args))


def _run(task: str, args: argparse.Namespace) -> None:
    parallel.start()
    device = pick_device(args.gpu)
    options = _options(args)
    name = f"{task}_{args.split_point}_{args.compress_factor}"
    run = Run(args.output / f"{name}.pt", {})
    log = args.output / f"{name}.jsonl"
    _check_output(run.path, args.resume)
    benchmark = find(task, args.benchmark or (PUBLISHED[task] if args.data else EMBEDDED))
    network = benchmark.build_network(args.backbone_weights)
    dataset = _dataset(task, benchmark, args, options)
    location = args.split_point.removeprefix("U")
    source = SOURCES[benchmark.name, task]
    learning, counted = source.views(dataset)
    with parallel.first_alone():
        training = compute(network, [location], learning, cores())[location]
        counting = compute(network, [location], counted, cores(), torch.float32)[location]
    run.identity = identity(options, benchmark=benchmark.name, split_point=args.split_point, stride=args.stride,
                            channels=args.channels, network=fingerprint(network), pictures=len(dataset))
    torch.manual_seed(args.seed)
    bottleneck = make_bottleneck(task, location, training.features.shape[1], args.channels, args.stride)
    _, back = cut(network, location)
    trainee = fit(bottleneck, back, training, options, run, log, device)
    key = (task, benchmark.name, args.split_point, args.compress_factor)
    if parallel.rank() == 0:
        _write(trainee.cpu(), counting, args, key, log)
    parallel.stop()


def _options(args: argparse.Namespace) -> Options:
    for name, value in (("step", args.step), ("lr", args.lr)):
        if not 0 < value < 1e6:
            raise SpicError(f"--{name} {value}: must be a number above 0")
    if not 0 <= args.weight < 1e12:
        raise SpicError(f"--lambda {args.weight}: must be a number, 0 or more")
    distortion = args.distortion or ("distill" if args.split_point.startswith("U") else "task")
    return Options(args.step, args.weight, args.rate, distortion, args.epochs, args.batch_size, args.lr, args.seed)


def _check_output(checkpoint: Path, resume: bool) -> None:
    check_writable(checkpoint)
    if checkpoint.exists() and not resume:
        raise SpicError(f"{checkpoint.parent}: already holds the run {checkpoint.stem}; go on with it by --resume, "
                        "or choose another folder or --compress_factor")
    if resume and not checkpoint.exists():
        raise SpicError(f"{checkpoint}: no such checkpoint, so there is nothing to resume; leave --resume out")


def _dataset(task: str, benchmark, args, options: Options):
    source = SOURCES[benchmark.name, task]
    if options.distortion == "distill" and args.data:
        return Unlabelled(args.data, source.preparation, args.limit)
    dataset = source.open(args.data, source.bottlenecks, args.limit)
    if dataset.num_classes != benchmark.num_classes:
        raise SpicError(f"{args.data}: has {dataset.num_classes} classes, the network {benchmark.num_classes}")
    return dataset


def _write(trainee: Trainee, counting: FeatureSet, args, key: tuple, log: Path) -> None:
    compared = write_outcome(trainee, counting, key, args.tables, args.output, log)
    print("/".join(map(str, key)), *(f"{name} {value:.5f}" for name, value in compared.items()), sep="  ")
    print(f"everything is in {args.output}")
