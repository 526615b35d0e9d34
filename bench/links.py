"""Time to answer over a real link: split points against pictures that are sent to the whole network, by the same cloud.

    python bench/links.py --valdir imagenette2-160                              as root, minutes
    python bench/links.py --valdir imagenette2-160 --limit 5 --rates 50 --delays 10 --output links

Edge and cloud are two network namespaces, each with the kernel's own TCP, joined by a wire of this bench's making (wire.py) that has
the link's rate, delay and loss. The clock runs from the picture in memory to the answer: at the edge
crop, front, encoder and coder, or crop and picture codec; the link both ways; in the cloud decoder and back, or picture decoder and
network. One request at a time, one connection, both ends on this machine: it is fast for an edge, so the split points' times
are a lower bound on a smaller one. Prints medians with their 95 % bootstrap interval, writes OUTPUT.json and OUTPUT.png.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import torch
from machine import describe
from PIL import Image
from wire import CLOUD, Link, hosts, within

from spic.benchmarks import find
from spic.commands import Parser, guarded, positive
from spic.datasets.images import JPEG_QUALITY
from spic.datasets.pictures import read_rgb
from spic.edge.client import Client
from spic.edge.encode import PictureCoder
from spic.edge.network import TorchHalf
from spic.errors import SpicError
from spic.files import write_json
from spic.networks.fold import fold_batch_norm
from spic.points import SHARED, load_points, select
from spic.report import aligned

BENCHMARK = find("classification", "imagenette")
POINTS = ("S1", "S3")
CODECS = {"JPEG": {"format": "JPEG", "quality": JPEG_QUALITY, "optimize": True}, "AVIF": {"format": "AVIF", "quality": 50, "speed": 6}}
FEATURES, PICTURES = 8765, 8766


# ---- the cloud for pictures -------------------------------------------------------------------------------------------------


def serve_pictures(args: argparse.Namespace) -> None:
    """Answers a POST of one coded picture with the class that the whole network gives it."""
    network = fold_batch_norm(BENCHMARK.build_network()).to(memory_format=torch.channels_last)

    class Handler(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True  # head and body of an answer leave at once

        @torch.inference_mode()
        def do_POST(self) -> None:
            image = read_rgb(io.BytesIO(self.rfile.read(int(self.headers["Content-Length"]))))
            tensor = torch.from_numpy(BENCHMARK.preparation.array(image))[None].contiguous(memory_format=torch.channels_last)
            answer = json.dumps({"class": int(network(tensor).argmax())}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_) -> None:
            pass

    print("ready", flush=True)
    HTTPServer((CLOUD, PICTURES), Handler).serve_forever()


@contextlib.contextmanager
def started(words: list[str], ready: str) -> Iterator[None]:
    """A server that says ``ready`` in a line once it answers; ended in the end."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not any(ready in line for line in process.stdout):
                raise SpicError(f"{' '.join(words)}: ended with {process.wait()}")
            yield
        finally:
            process.terminate()


# ---- the edge ------------------------------------------------------------------------------------------------------------


def ask(args: argparse.Namespace) -> None:
    """Every picture by every way over one link; a row of JSON each."""
    torch.set_num_threads(1)
    data = BENCHMARK.open_data(args.valdir, args.limit)
    pictures = [read_rgb(path) for path in data.paths]
    for name, way in ways().items():
        way(pictures[0])  # opens the connection
        for number, picture in enumerate(pictures):
            start = time.perf_counter()
            sent, found = way(picture)
            print(json.dumps({"way": name, "picture": number, "ms": 1e3 * (time.perf_counter() - start), "bytes": sent, "class": found}),
                  flush=True)


def ways() -> dict[str, Callable[[Image.Image], tuple[int, int]]]:
    """Name → (picture → bytes of the body, class of the answer)."""
    from spic.coding.stream import write_stream

    points = select(load_points(), "classification", BENCHMARK.name, list(POINTS), ["0"])
    coder, client = PictureCoder(TorchHalf(points, "rans")), Client(f"http://{CLOUD}:{FEATURES}", timeout=120.0)
    connection = http.client.HTTPConnection(CLOUD, PICTURES, timeout=120.0)

    def feature(number: int, picture: Image.Image) -> tuple[int, int]:
        body = write_stream(coder.half.points[number].header, [coder(picture, number).payload])
        (answer,) = client.predict(body, os.urandom(16).hex(), 1).answers
        return len(body), answer["top"][0]["class"]

    def coded(settings: dict, picture: Image.Image) -> tuple[int, int]:
        buffer = io.BytesIO()
        BENCHMARK.preparation.geometry(picture).save(buffer, **settings)
        connection.request("POST", "/", buffer.getvalue())
        return buffer.tell(), json.loads(connection.getresponse().read())["class"]

    return ({f"{point.split_point}/0": lambda picture, n=n: feature(n, picture) for n, point in enumerate(points)}
            | {name: lambda picture, settings=settings: coded(settings, picture) for name, settings in CODECS.items()})


# ---- all links, table and figure -----------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    me = [sys.executable, __file__, "--valdir", str(args.valdir), "--limit", str(args.limit)]
    cloud = [sys.executable, "-m", "spic", "cloud", "--benchmark", BENCHMARK.name, "--split_point", *POINTS, "--compress_factor", "0",
             "--coder", "rans", "--tables", SHARED, "--host", CLOUD, "--port", str(FEATURES), "--insecure", "--batch_ms", "0"]
    found = []
    with hosts() as wire:
        links = [Link(rate, delay, loss) for loss in dict.fromkeys((0.0, args.loss)) for rate in args.rates for delay in args.delays]
        with started(within("cloud", *cloud), "answers streams"), started(within("cloud", *me, "--serve"), "ready"):
            for link in links:
                wire.link, before = link, (wire.passed, wire.lost)
                said = subprocess.run(within("edge", *me, "--ask"), stdout=subprocess.PIPE, text=True)
                if said.returncode:
                    raise SpicError(f"{link}: the edge ended with {said.returncode}")
                found += (rows := summed(link, [json.loads(line) for line in said.stdout.splitlines()]))
                print(aligned(rows), f"{wire.lost - before[1]} of {wire.passed + wire.lost - sum(before)} packets lost\n", sep="\n", flush=True)
    write_json(args.output.with_suffix(".json"), {"machine": describe(), "pictures": args.limit, "links": found})
    draw(found, args.output.with_suffix(".png"))


def summed(link: Link, rows: list[dict]) -> list[dict]:
    table, random = [], np.random.default_rng(0)
    for way in dict.fromkeys(row["way"] for row in rows):
        times = np.array([row["ms"] for row in rows if row["way"] == way])
        medians = np.median(random.choice(times, (2000, len(times))), axis=1)
        low, high = np.percentile(medians, (2.5, 97.5))
        table.append({"link": str(link), "way": way, "body bytes": round(np.mean([row["bytes"] for row in rows if row["way"] == way])),
                      "median ms": round(float(np.median(times))), "95 %": f"{low:.0f} to {high:.0f}",
                      "p95 ms": round(float(np.percentile(times, 95)))})
    return table


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    links = list(dict.fromkeys(row["link"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(8, 0.6 * len(links) + 1.6), layout="constrained")
    names = list(dict.fromkeys(row["way"] for row in rows))
    for place, way in enumerate(names):
        times = [row["median ms"] for row in rows if row["way"] == way]
        axes.barh([i + 0.2 * (place - (len(names) - 1) / 2) for i in range(len(links))], times, 0.18, label=way)
    axes.set(yticks=range(len(links)), yticklabels=links, xlabel="median milliseconds from picture to answer")
    axes.invert_yaxis()
    axes.legend(ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(path, dpi=150)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("bench/links.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--valdir", type=Path, required=True, metavar="DIR", help="imagenette's pictures")
    add("--limit", type=positive, default=20, help="pictures, evenly spread")
    add("--rates", type=float, nargs="+", default=[50, 1000, 20000], help="kbit/s")
    add("--delays", type=float, nargs="+", default=[10, 100], help="ms, each way")
    add("--loss", type=float, default=2.0, help="percent, measured beside 0; 0: only 0")
    add("--output", type=Path, default=Path("links"), help="OUTPUT.json and OUTPUT.png")
    for name in ("serve", "ask"):
        add(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    arguments = parse()
    sys.exit(guarded(lambda: (serve_pictures if arguments.serve else ask if arguments.ask else run)(arguments)))
