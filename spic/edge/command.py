"""Sends pictures to a cloud and takes its answers: the command ``spic edge``.

    spic edge cam.zip localhost:8765 photo.jpg folder/
    spic edge cam.zip https://cloud.example folder/ --follow --spool waiting.sqlite --target_ms 200
    spic edge cam.zip localhost:8765 /dev/video0 --fps 2 --json
    spic edge dict.yaml localhost:8765 folder/ --benchmark scenes --split_point S1 --compress_factor 1
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from spic.coding import CODERS
from spic.coding.counting import KINDS
from spic.coding.stream import StreamHeader, write_stream
from spic.commands import Parser, guarded, positive
from spic.edge import sources
from spic.edge.bundle import Bundle
from spic.edge.client import Away, Client
from spic.edge.encode import Coded, Half, PictureCoder
from spic.edge.rate import Choice, Fixed, Link, WithinBudget, WithinTime
from spic.edge.report import Report
from spic.edge.runtime import OnnxHalf
from spic.edge.sender import Sender
from spic.edge.spool import Parcel, Spool, SpoolFull
from spic.errors import SpicError

TOKEN = "SPIC_TOKEN"
MOST_TOKEN_BYTES = 4096
FROM_TORCH = {"task": "classification", "benchmark": "scenes", "coder": "rans", "tables": None}
"""Options that say which points of a dict.yaml run, and what they are where nothing is said; a bundle says all of it."""


def parser() -> argparse.ArgumentParser:
    parser = Parser("spic edge", formatter_class=argparse.HelpFormatter,
                    description="Send pictures to a cloud, as the symbols of a split network, and take its answers.")
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="what `spic export` wrote; or a dict.yaml, which runs by torch")
    add("server", metavar="SERVER", help="http://HOST[:PORT], https://HOST[:PORT], or HOST[:PORT]")
    add("inputs", metavar="INPUT", nargs="*", help="pictures, folders, videos, cameras such as /dev/video0 (default: none, "
        "only what waits in the spool is sent)")
    add("--split_point", nargs="+", metavar="NAME",
        help="only points cut there (default: all of a bundle, S1 of a dict.yaml)")
    add("--compress_factor", nargs="+", metavar="N",
        help="only points of these factors (default: all of a bundle, 0 of a dict.yaml)")
    for name, value in FROM_TORCH.items():
        add(f"--{name}", choices={"coder": CODERS, "tables": KINDS}.get(name),
            help=f"of the points, with a dict.yaml (default: {value or 'as it says'})")
    add("--backbone_weights", type=Path, help="a state dict of the network, with a dict.yaml (default: the shipped or "
        "official one)")
    add("--target_ms", type=_above_zero, help="take the best point that answers a picture in time, as the link is now")
    add("--budget_kbps", type=_above_zero, help="take the best point that keeps to so many kbit/s")
    add("--batch", type=positive, default=1, help="pictures in a stream (default: %(default)s)")
    add("--follow", action="store_true", help="watch the folders for new pictures, for ever")
    add("--every", type=positive, default=1, help="each so many frames of a video or camera (default: %(default)s)")
    add("--fps", type=_above_zero, help="at most so many frames a second of a video or camera (default: all)")
    add("--spool", type=Path, help="a file that keeps what waits while the server is away (default: memory)")
    add("--spool_mb", type=positive, default=64, help="what the spool may grow to (default: %(default)s)")
    add("--patience", type=_above_zero, help="seconds that the server may be away before this gives up (default: 60; for "
        "cameras and --follow without end)")
    add("--timeout", type=_above_zero, default=30.0, help="seconds that one answer may take (default: %(default)s)")
    add("--token_file", type=Path, help=f"holds the server's token (default: the variable {TOKEN}, if it is set)")
    add("--ca", type=Path, help="certificates to believe, PEM (default: the system's)")
    add("--insecure", action="store_true", help="send the token over a connection that is not encrypted")
    add("--threads", type=positive, help="of the network (default: OMP_NUM_THREADS, else one for each core)")
    add("--json", action="store_true", help="print a JSON object for each picture, and one for the summary")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _above_zero(text: str) -> float:
    """A number above zero, below 2**31."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number above 0")
    return value


def _run(args: argparse.Namespace) -> None:
    _check(args)
    client = Client(args.server, _token(args.token_file), args.timeout, args.ca, args.insecure)
    coder = PictureCoder(_half(args))
    spool = Spool(args.spool, args.spool_mb << 20)
    link = Link()
    choice = _choice(args, coder, link)
    height, width = coder.half.preparation.image_size
    report = Report(args.json, height * width, sources.count(args.inputs, args.follow))
    sender = Sender(client, spool, report, [point.header for point in coder.half.points], _patience(args),
                    link if args.target_ms else None)
    try:
        _meet(sender, args.spool, report)
        sender.start()
        _send_all(args, coder, choice, sender, report)
        sender.finish()
    except SpicError as error:
        sender.stop()
        if not spool.waiting()[0]:
            raise
        if left := _leave(spool, report, str(error)):
            raise SpicError(f"{error}; {left}") from None
    except KeyboardInterrupt:
        sender.stop()
        if left := _leave(spool, report, "interrupted"):
            report.note(left)
        raise
    finally:
        sender.stop()
        report.close()
        spool.close()
    if report.failed:
        raise SpicError(f"{report.failed} of {report.failed + report.answered} pictures failed; the first: "
                        f"{report.first_failure}")


def _check(args: argparse.Namespace) -> None:
    """Options that contradict one another, and inputs that are none."""
    if args.target_ms and args.budget_kbps:
        raise SpicError("--target_ms and --budget_kbps both choose the point; give one of them")
    if not args.inputs and not args.spool:
        raise SpicError("no INPUT: name pictures, folders, a video or a camera; or a --spool from which to send what waits")
    sources.check(args.inputs, args.follow, args.every, args.fps)


def _meet(sender: Sender, spool: Path | None, report: Report) -> None:
    """The server's points are ours, or it is away: with a spool on disk that is no reason to stop."""
    try:
        sender.check()
    except Away as error:
        if spool is None:
            raise SpicError(f"{error}; is the server there? With --spool FILE pictures wait until it is") from None
        report.note(f"{error}; pictures wait in {spool}")


def _leave(spool: Spool, report: Report, why: str) -> str:
    """An end before all was answered. On disk it waits for the next run: says so; in memory it is lost, picture by picture."""
    pictures, _ = spool.waiting()
    if spool.path and pictures:
        return f"{pictures} pictures wait in {spool.path}: `spic edge BUNDLE SERVER --spool {spool.path}` sends them"
    while parcel := spool.oldest():
        for picture in parcel.pictures:
            report.failure(picture, why)
        spool.remove(parcel)
    return ""


# ---- what the options mean ----------------------------------------------------------------------------------------


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN) or None
    try:
        with open(path, "rb") as file:
            token = file.read(MOST_TOKEN_BYTES + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpicError(f"{path}: no readable token ({getattr(error, 'strerror', None) or 'not ASCII'})") from None
    if not token or len(token) > MOST_TOKEN_BYTES or not token.isprintable():
        raise SpicError(f"{path}: a token is one line of at most {MOST_TOKEN_BYTES} letters")
    return token


def _patience(args: argparse.Namespace) -> float:
    endless = args.follow or any(map(sources.is_live, args.inputs))
    return args.patience or (math.inf if endless else 60.0)


def _half(args: argparse.Namespace) -> Half:
    if args.bundle.suffix in (".yaml", ".yml"):
        return _from_torch(args)
    for name in (*FROM_TORCH, "backbone_weights"):
        if getattr(args, name) is not None:
            raise SpicError(f"--{name}: a bundle says that itself; it is for a dict.yaml")
    bundle = Bundle.open(args.bundle)
    chosen = [point for point in bundle.points if _wanted(point.name, args.split_point, args.compress_factor)]
    known = ", ".join(point.name for point in bundle.points)
    if not chosen:
        raise SpicError(f"{args.bundle}: no such point; it holds {known}")
    return OnnxHalf(bundle, chosen, args.threads)


def _wanted(name: str, split_points: list[str] | None, factors: list[str] | None) -> bool:
    _, _, split_point, factor = name.split("/") if name.count("/") == 3 else (None, None, name, None)
    return (split_points is None or split_point in split_points) and (factors is None or factor in factors)


def _from_torch(args: argparse.Namespace) -> Half:
    """The points of a dict.yaml, by torch; only here is it loaded."""
    if args.threads:
        raise SpicError("--threads: torch takes OMP_NUM_THREADS; the option is for a bundle")
    try:
        points = importlib.import_module("spic.points")
        network = importlib.import_module("spic.edge.network")
    except ImportError as error:
        raise SpicError(f"{args.bundle}: runs by torch, which is not complete here ({error.name or error}); give a bundle "
                        "instead") from None
    task, benchmark, coder, tables = (getattr(args, name) or value for name, value in FROM_TORCH.items())
    chosen = points.select(points.load_points(args.bundle.resolve()), task, benchmark, args.split_point or ["S1"],
                           args.compress_factor or ["0"], tables)
    return network.TorchHalf(chosen, coder, args.backbone_weights)


def _choice(args: argparse.Namespace, coder: PictureCoder, link: Link) -> Choice:
    points = coder.half.points
    if args.target_ms:
        return WithinTime(points, coder.warm, link, args.target_ms)
    if args.budget_kbps:
        return WithinBudget(points, coder.warm, args.budget_kbps)
    if len(points) > 1 and args.inputs:
        names = ", ".join(point.name for point in points)
        raise SpicError(f"{args.bundle}: holds {len(points)} points ({names}): choose one with "
                        "--split_point and --compress_factor, or let --target_ms or --budget_kbps choose")
    return Fixed()


# ---- pictures to parcels ------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Pictures of one point that will be one stream."""

    number: int = 0
    names: list[str] = field(default_factory=list)
    coded: list[Coded] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    can_wait: bool = True

    def parcel(self, header: StreamHeader) -> Parcel:
        """The stream, under an id that stays the same however often it is sent."""
        payloads = [coded.payload for coded in self.coded]
        times = tuple(coded.milliseconds for coded in self.coded)
        return Parcel(str(uuid.uuid4()), write_stream(header, payloads), header.point, tuple(self.names),
                      tuple(map(len, payloads)), times, time.time())


def _send_all(args: argparse.Namespace, coder: PictureCoder, choice: Choice, sender: Sender, report: Report) -> None:
    """Each picture into a batch, each full batch, or what there is while nothing comes, into the spool."""
    batch = Batch()
    for picture in sources.sources(args.inputs, args.follow, args.every, args.fps):
        if picture is None:
            batch = _put(batch, coder, sender, report)
            continue
        if picture.key and sender.took(picture.key):
            continue
        if args.target_ms and picture.can_wait:
            sender.settle()
        number = choice.choose(sender.waiting_bytes())
        if number != batch.number:
            batch = _put(batch, coder, sender, report)
        try:
            coded = coder(picture.load(), number)
        except SpicError as error:
            report.failure(picture.name, str(error))
            continue
        choice.used(number, len(coded.payload), sum(coded.milliseconds.values()))
        batch.number, batch.can_wait = number, picture.can_wait
        batch.names.append(picture.name)
        batch.keys += [picture.key] if picture.key else []
        batch.coded.append(coded)
        if len(batch.names) == args.batch:
            batch = _put(batch, coder, sender, report)
    _put(batch, coder, sender, report)


def _put(batch: Batch, coder: PictureCoder, sender: Sender, report: Report) -> Batch:
    """Hand a batch over, if there is anything in it; returns the next, empty one."""
    if batch.names:
        try:
            sender.put(batch.parcel(coder.half.points[batch.number].header), batch.can_wait, batch.keys)
        except SpoolFull as error:
            for name in batch.names:
                report.failure(name, str(error))
    return Batch(batch.number)
