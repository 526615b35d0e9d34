"""The cloud half as a server: ``spic cloud``.

    spic cloud                                                      the embedded points, on this machine
    spic cloud --benchmark own --points mine/dict.yaml --task classification
    spic cloud --host 0.0.0.0 --token_file token --tls_cert cert.pem --tls_key key.pem
    spic cloud --ray --replicas 2:8                                 several machines, by Ray Serve
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from spic.benchmarks import EMBEDDED
from spic.cloud.gate import LOOPBACK_NAMES, is_loopback, read_token
from spic.cloud.limits import Limits
from spic.cluster import ONE, connected, replicas
from spic.coding import CODERS
from spic.coding.counting import KINDS
from spic.commands import Parser, guarded, natural, positive
from spic.errors import SpicError
from spic.points import DICT_FILE, OperatingPoint, load_points, select
from spic.protocol import PORT
from spic.tasks import TASKS

LIMITS = Limits()


def parser() -> argparse.ArgumentParser:
    parser = Parser("spic cloud", formatter_class=argparse.HelpFormatter,
                    description="Answer streams of edges over HTTP, with the predictions of val.py (docs/deploy.md).")
    add = parser.add_argument
    add("--benchmark", default=EMBEDDED, help="whose network and points (default: %(default)s)")
    add("--task", nargs="+", choices=TASKS, help="default: every task that the benchmark has points for")
    add("--split_point", nargs="+", default=["all"], help="S1 S2 S3 US1 ... or all (default: all)")
    add("--compress_factor", nargs="+", default=["all"], help="0 1 2 ... or all (default: all)")
    add("--points", type=Path, default=DICT_FILE, help="a dict.yaml, such as train.py writes (default: the project's)")
    add("--coder", nargs="+", choices=CODERS, default=list(CODERS), help="default: all of them")
    add("--tables", choices=KINDS, help="of frequency tables (default: each point's own, as dict.yaml says)")
    add("--backbone_weights", type=Path, help="a state dict of the network (default: torchvision's or the shipped one)")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen at; another than this machine's own needs --token_file and "
        "--tls_cert, or --insecure (default: %(default)s)")
    add("--port", type=port, default=PORT, help="0: any that is free (default: %(default)s)")
    add("--token_file", type=Path, help="a file with the secret that clients must send (default: everyone is answered)")
    add("--tls_cert", type=Path, help="PEM file of the certificate, with its chain (default: no TLS)")
    add("--tls_key", type=Path, help="PEM file of its key, without a password")
    add("--insecure", action="store_true", help="listen at any --host without token or TLS, as where a proxy does both")
    add("--try", dest="trial", action="store_true", help="the page may upload a picture: the edge half runs here, too")
    add("--batch_ms", type=natural, default=round(LIMITS.batch_ms), help="how long a picture may wait for others of its "
        "point (default: %(default)s)")
    add("--queue", type=positive, default=LIMITS.queue, help="pictures that may wait; more are told to come again (default: "
        "%(default)s)")
    add("--pictures", type=positive, default=LIMITS.pictures, help="most of one request (default: %(default)s)")
    add("--body_mb", type=positive, default=LIMITS.body_bytes >> 20, help="MiB, most of one request (default: %(default)s)")
    add("--connections", type=positive, default=LIMITS.connections, help="open at a time (default: %(default)s)")
    add("--ray", action="store_true", help="compute on a Ray cluster (RAY_ADDRESS, else this machine)")
    add("--replicas", type=replicas, metavar="N|MIN:MAX", help="with --ray: processes that compute, or between two numbers as "
        "the load asks (default: 1)")
    for name, what in (("header", "the headers of a request"), ("read", "a whole request to arrive"),
                       ("idle", "a connection without a request"), ("drain", "what was taken, when told to stop")):
        add(f"--{name}_seconds", type=positive, default=round(getattr(LIMITS, f"{name}_seconds")),
            help=f"for {what} (default: %(default)s)")
    return parser


def port(text: str) -> int:
    """A port number, or 0."""
    number = natural(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{number} is no port: 0 to 65535")
    return number


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_access(args)
    token = read_token(args.token_file) if args.token_file else None
    points = chosen(args)
    _require_packages()
    from spic.cloud.server import check_tls

    tls = (args.tls_cert, args.tls_key) if args.tls_cert else None
    if tls:
        check_tls(*tls)
    hosts = LOOPBACK_NAMES if is_loopback(args.host) and not token else None
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    (_on_cluster if args.ray else _here)(args, points, limits_of(args), tls, token, hosts)


def _here(args: argparse.Namespace, points: list[OperatingPoint], limits: Limits, tls, token, hosts) -> None:
    """In this process."""
    if args.replicas:
        raise SpicError("--replicas: says how many processes compute with --ray; one does here")
    from spic.cloud.app import make_app
    from spic.cloud.server import address, listen, make_server, run
    from spic.cloud.served import load_served
    from spic.cloud.service import Service
    from spic.cloud.trial import Trials

    with listen(args.host, args.port) as listening:
        served = load_served(points, args.coder, device_of(args.device), args.backbone_weights)
        app = make_app(Service(served, limits), token, hosts, Trials(served, args.backbone_weights) if args.trial else None)
        url = address(listening, tls is not None)
        run(make_server(app, limits, tls, lambda: print(f"{_what(served)} at {url}", flush=True)), listening)


def _on_cluster(args: argparse.Namespace, points: list[OperatingPoint], limits: Limits, tls, token, hosts) -> None:
    """In the processes of a Ray cluster."""
    check_for_ray(args)
    from spic.cloud.served import servable
    from spic.cloud.server import address, listen

    points = servable(points)
    with connected("spic cloud"):
        from spic.cloud.fleet import Address, run

        with listen(args.host, args.port) as listening:  # free now; Ray listens there in a moment
            url, where = address(listening, tls is not None), Address(args.host, listening.getsockname()[1], tls)
        run(points, args.coder, args.device, args.backbone_weights, limits, args.replicas or ONE, where, token, hosts,
            lambda known: print(f"{_what(known)} at {url}", flush=True))


def check_for_ray(args: argparse.Namespace) -> None:
    """Ray's own HTTP server stands before the application: what it bounds itself, or not at all, must not be asked for."""
    for name in ("connections", "header_seconds", "read_seconds"):
        if getattr(args, name) != round(getattr(LIMITS, name)):
            raise SpicError(f"--{name}: Ray's HTTP server has no such limit; put a proxy before it, or leave out --ray")
    if args.trial:
        raise SpicError("--try: a door of --ray runs no network; leave out one of the two")
    if args.device not in ("cpu", "cuda"):
        raise SpicError(f"--device {args.device}: with --ray choose cpu or cuda; Ray says which GPU a replica has")


def check_access(args: argparse.Namespace) -> None:
    """Who could reach the server, and whether that is meant."""
    if (args.tls_cert is None) != (args.tls_key is None):
        raise SpicError("--tls_cert and --tls_key belong together: name both, or none")
    missing = [option for option, value in (("--token_file", args.token_file), ("--tls_cert and --tls_key", args.tls_cert))
               if value is None]
    if missing and not args.insecure and not is_loopback(args.host):
        raise SpicError(f"--host {args.host}: others than this machine could reach it, so it needs {' and '.join(missing)} "
                        "(docs/deploy.md), or --insecure if something else protects it")


def chosen(args: argparse.Namespace) -> list[OperatingPoint]:
    """The points that are to be served, of all tasks asked for."""
    points = load_points(args.points.resolve())
    tasks = args.task or [task for task in TASKS if any(key[:2] == (task, args.benchmark) for key in points)] or list(TASKS)
    return [point for task in tasks
            for point in select(points, task, args.benchmark, args.split_point, args.compress_factor, args.tables)]


def limits_of(args: argparse.Namespace) -> Limits:
    """What the options say of them."""
    if args.pictures > args.queue:
        raise SpicError(f"--pictures {args.pictures}: a request of so many never fits --queue {args.queue}; make them equal")
    same = ("queue", "pictures", "connections", "batch_ms", "header_seconds", "read_seconds", "idle_seconds",
            "drain_seconds")
    body = args.body_mb << 20
    return replace(LIMITS, body_bytes=body, memory_bytes=max(LIMITS.memory_bytes, 4 * body),
                   **{name: getattr(args, name) for name in same})


def device_of(name: str):
    """The torch.device of this name, there and ready."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise SpicError(f"--device {name}: choose cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SpicError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs on this machine; use --device cpu")
    return device


def _require_packages() -> None:
    try:
        import prometheus_client, starlette, uvicorn  # noqa: F401, E401
    except ImportError as error:
        raise SpicError(f"spic cloud needs {error.name}: pip install 'spic-split[cloud]'") from None


def _what(served) -> str:
    points = len({one.header.point for one in served})
    return f"spic cloud answers streams of {points} operating point{'s' * (points != 1)}"
