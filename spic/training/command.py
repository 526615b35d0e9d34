"""The command `spic train`, Classification/train.py and Segmentation/train.py: a curve of bottlenecks for one cut of a network.

    spic train --network torchvision:mobilenet_v3_large --cut features.12 --split_point US1 --data PHOTOS \
        --lambda 10 50 200 --output my_points

The output folder becomes a small root of its own, with dict.yaml, Weights/ and Freq_tab/, that `spic val --points` reads.
docs/training.md explains every option.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spic import parallel
from spic.benchmarks import EMBEDDED, PUBLISHED, benchmarks, default_name, every_name, find
from spic.benchmarks.own import OWN
from spic.bottleneck import ACTIVATIONS, FORMS, LINEAR, SEPARABLE
from spic.coding.counting import KINDS
from spic.commands import Parser, boolean, guarded, natural, pick_device, positive, weights_file
from spic.errors import SpicError
from spic.machine import cores
from spic.points import is_name
from spic.tasks import TASKS
from spic.training.curve import Pictures, Places, train_all
from spic.training.distortion import DISTORTIONS, TASK
from spic.training.jobs import Curve, Job
from spic.training.outcome import Outcome, verdict
from spic.training.rate import ESTIMATORS

LAMBDA = 10.0


def parser(task: str, prog: str | None = None) -> argparse.ArgumentParser:
    """The arguments of train.py. task: unless --task says another."""
    parser = Parser(prog, formatter_class=argparse.HelpFormatter, description="Train bottlenecks for a split network, which "
                    "stays as it is. Several lambdas make a curve, each point starting from its neighbour.")
    what = parser.add_argument_group("what is split")
    add = what.add_argument
    add("--task", choices=TASKS, default=task, help="default: %(default)s")
    add("--network", metavar="NAME", help="torchvision:NAME, timm:NAME, narrow:NAME/WIDTH or FILE.py:FUNCTION; `spic splits "
        "NAME` lists where it can be cut (default: the benchmark's)")
    add("--cut", metavar="NODE", help="node or module of the network after which it is cut (default: where the benchmark puts "
        "the split point)")
    add("--weights", "--backbone_weights", type=weights_file, metavar="FILE|random", help="the network's weights, a state dict (default: those "
        "that its authors trained, or the shipped ones)")
    add("--size", type=positive, metavar="N", help="side of --network's input in pixels (default: the network's own)")
    add("--benchmark", metavar="NAME", help=f"how the points are filed: {every_name()}, or a name of your own "
        f"(default: {OWN} with --network, {' or '.join(PUBLISHED.values())} with --data, else {EMBEDDED})")
    add("--split_point", default="S1", metavar="NAME", help="S1, S2, S3: trained with labels; US1, US2, US3 and any other name: "
        "without (default: %(default)s)")
    add = parser.add_argument_group("pictures").add_argument
    add("--data", type=Path, metavar="DIR", help="pictures to learn from; without labels any folder of them, nested or flat")
    add("--limit", type=positive, metavar="N", help="only N of them, evenly spread")
    add("--apart_from", type=Path, nargs="+", default=[], metavar="DIR", help="folders of pictures to be tested on: one of them "
        "among --data, by its content, is refused")
    add = parser.add_argument_group("the bottleneck").add_argument
    add("--lambda", type=float, nargs="+", dest="lambdas", metavar="LAMBDA", help="what a bit per pixel may cost in accuracy "
        f"(nats of distortion): larger means fewer bytes; each makes a point (default: {LAMBDA:g})")
    add("--compress_factor", type=natural, default=0, metavar="N", help="number of the first lambda's point on its curve; the "
        "others follow (default: %(default)s)")
    add("--form", choices=FORMS, help="separable: as published; separable2, conv, conv2: two such layers, one full "
        "convolution, two; linear, rectified: start from a closed solution (default: separable, with --steps 0 linear)")
    add("--stride", type=positive, metavar="N", help="of the encoder (default: 2, for tokens 1; of a linear one the whole map, "
        "where the rest of the network takes its mean)")
    add("--channels", type=positive, nargs="+", metavar="N", help="that are coded, for all points or for each (default: an "
        "eighth of the feature's, 8 to 64; of a linear one all, up to 128)")
    add("--step", type=float, nargs="+", default=[Curve.step], help="of the quantiser, for all points or for each; with "
        "--steps 0 each makes a point (default: 0.5)")
    add("--activation", choices=ACTIVATIONS, help="the decoder's last one (default: relu, or none where the pictures' features "
        "take negative values)")
    add("--tables", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of frequency tables to count for val.py "
        "--tables, beside the shared one (default: all)")
    add = parser.add_argument_group("how it is trained").add_argument
    add("--steps", type=natural, default=Curve.steps, metavar="N", help="length in batches; a point that starts from its "
        "neighbour takes half of it; 0: no training, the closed form (default: %(default)s)")
    add("--rate", choices=tuple(ESTIMATORS), default=Curve.rate, help="estimator of the bits (default: %(default)s)")
    add("--distortion", choices=DISTORTIONS, help="task: against the labels; distill: against the uncompressed network's "
        "answers; mae: their absolute error, as in the paper (default: task for S1, S2, S3, else distill)")
    add("--batch_size", type=positive, default=Curve.batch_size, metavar="N", help="default: %(default)s")
    add("--lr", type=float, default=Curve.lr, help="peak of the learning rate (default: %(default)s)")
    add("--seed", type=natural, default=0, metavar="N", help="default: %(default)s")
    add("--gpu", type=boolean, default=False, metavar="True|False", help="default: False")
    add("--processes", type=positive, metavar="N", help="points at a time, one core each; 1 gives each point all cores in turn "
        f"(default: {cores()}, the cores of this machine)")
    add = parser.add_argument_group("where it goes").add_argument
    add("--output", type=Path, required=True, metavar="DIR", help="folder for weights, tables, dict.yaml, logs and checkpoints")
    add("--resume", action="store_true", help="go on with the run that the output folder holds")
    return parser


def main(task: str, argv: list[str] | None = None, prog: str | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser(task, prog).parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    parallel.start()
    _check(args)
    jobs = list(_curve(args).jobs())
    places = Places(args.output, args.output / "runs")
    _check_output(jobs, places, args.resume)
    try:
        outcomes = train_all(jobs, places, _pictures(jobs, args), weights=args.weights, kinds=args.tables,
                             processes=_processes(args), device=pick_device(args.gpu))
    except KeyboardInterrupt:
        _say_what_is_kept(jobs, places)
        raise
    if parallel.rank() == 0:
        _tell(outcomes, args)
    parallel.stop()


def _curve(args: argparse.Namespace) -> Curve:
    task = args.task
    network = f"{args.network}@{args.size}" if args.network and args.size else args.network
    name = args.benchmark or (OWN if args.network else default_name(task, args.data))
    known = (task, name) in benchmarks()
    if not known and network is None:
        find(task, name)  # says which there are
    own = network if not known or network != find(task, name).network else None
    more = {"network": own, "cut": args.cut, "activation": args.activation}
    lambdas = tuple(args.lambdas or ([LAMBDA] if args.steps else []))
    form = args.form or (SEPARABLE if args.steps else LINEAR)
    return Curve(task, name, args.split_point, lambdas, _one_or_each(args.step), args.stride, _one_or_each(args.channels),
                 args.steps, None, args.batch_size, args.lr, args.rate, args.distortion, args.seed, args.compress_factor,
                 form, more)


def _one_or_each(values: Sequence | None):
    """One value for all points, or a value for each."""
    return values[0] if values and len(values) == 1 else values


def _check(args: argparse.Namespace) -> None:
    for name, value in (*(("step", step) for step in args.step), ("lr", args.lr)):
        if not 0 < value < 1e6:
            raise SpicError(f"--{name} {value}: must be a number above 0")
    if not args.steps:
        _check_closed(args)
    for weight in args.lambdas or ():
        if not 0 <= weight < 1e12:
            raise SpicError(f"--lambda {weight}: must be a number, 0 or more")
    if args.size and not args.network:
        raise SpicError(f"--size {args.size}: the pictures of a benchmark have the size that its network was trained for; name "
                        "a --network, too")
    for option, name in (("--split_point", args.split_point), ("--benchmark", args.benchmark)):
        if name is not None and not is_name(name):
            raise SpicError(f"{option} {name!r}: must be a name of letters, digits, '.', '-' and '_'")


def _check_closed(args: argparse.Namespace) -> None:
    """Without a training, what only a training would heed is refused."""
    given = {"lambda": args.lambdas, "distortion": args.distortion, "rate": args.rate != Curve.rate, "lr": args.lr != Curve.lr,
             "batch_size": args.batch_size != Curve.batch_size}
    for name, value in given.items():
        if value:
            raise SpicError(f"--{name}: nothing is trained with --steps 0; the closed form's rates are those of several --step")


def _processes(args: argparse.Namespace) -> int:
    alone = args.gpu or parallel.world() > 1
    if alone and (args.processes or 1) > 1:
        raise SpicError(f"--processes {args.processes}: several points at a time are trained on the cores of one machine; leave "
                        "--gpu and torchrun out, or --processes")
    return 1 if alone else args.processes or cores()


def _pictures(jobs: Sequence[Job], args: argparse.Namespace) -> Pictures:
    """Without labels any folder will do; scenes have pictures of their own."""
    unlabelled = args.data is not None and jobs[0].options.distortion != TASK and jobs[0].benchmark != EMBEDDED
    return Pictures(args.data, unlabelled, args.limit, tuple(args.apart_from))


def _check_output(jobs: Sequence[Job], places: Places, resume: bool) -> None:
    there = [job for job in jobs if places.run(job).exists()]
    if there and not resume:
        raise SpicError(f"{places.output}: already holds the run {there[0].name}; go on with it by --resume, "
                        "or choose another folder or --compress_factor")
    if resume and not there:
        raise SpicError(f"{places.run(jobs[0])}: no such checkpoint, so there is nothing to resume; leave --resume out")


def _say_what_is_kept(jobs: Sequence[Job], places: Places) -> None:
    if parallel.rank() == 0:
        kept = any(places.run(job).exists() for job in jobs)
        print("\nthe same command with --resume goes on at the last checkpoint" if kept else "\ninterrupted before the first "
              "checkpoint: the same command, without --resume, starts again (features that are finished are kept)",
              file=sys.stderr)


def _tell(outcomes: Sequence[Outcome], args: argparse.Namespace) -> None:
    first = outcomes[0].job
    factors = " ".join(str(outcome.job.factor) for outcome in outcomes)
    print(*(outcome.line() for outcome in outcomes), sep="\n")
    more = f" --backbone_weights {args.weights}" if args.weights else ""
    print(f"everything is in {args.output}; measure it by: spic val --task {first.task} --points {args.output / 'dict.yaml'} "
          f"--benchmark {first.benchmark} --split_point {first.split_point} --compress_factor {factors} --coder rans"
          f"{more}{'' if first.benchmark == EMBEDDED else ' --valdir DIR'}")
    print(verdict(outcomes))

