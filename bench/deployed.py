"""Two processes over HTTP against val.py: are the answers the same, and how many bytes crossed the socket?

    python bench/deployed.py --task classification segmentation                         all pictures of the scenes
    python bench/deployed.py --benchmark imagenette --valdir imagenette2-160 --limit 500

For each split point, factor 0: `spic cloud` and `spic edge` run as their users run them, on loopback, the edge by torch and
from an ONNX bundle (`spic export`), one picture a stream and 16. An answer is another one where its class, or one pixel of
its map, is not that of the same road in one process, which is what val.py scores. Bytes are counted on the socket,
headers of HTTP included, those of TCP not.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from machine import describe
from PIL import Image

from spic.benchmarks import EMBEDDED, find
from spic.commands import Parser, guarded, positive
from spic.errors import SpicError
from spic.evaluate import Settings, lay_roads
from spic.files import write_json
from spic.networks import trace
from spic.points import DICT_FILE, SHARED, OperatingPoint, load_points, select
from spic.report import aligned
from spic.tasks import TASKS


@torch.inference_mode()
def in_one_process(benchmark, point: OperatingPoint, data) -> list[np.ndarray]:
    """Class, or map of classes, of each picture, on the road of val.py and in its batches."""
    settings = Settings("rans")
    network = trace(benchmark.build_network(), torch.zeros(1, 3, *benchmark.image_size))
    (stretch,) = lay_roads(benchmark, network, [point], benchmark.image_size, settings)
    road, found = stretch.roads[0], []
    for first in range(0, len(data), TASKS[benchmark.task].batch_size):
        images = torch.stack([data[i][0] for i in range(first, min(first + TASKS[benchmark.task].batch_size, len(data)))])
        sent = road.edge.send(stretch.front(images.contiguous(memory_format=torch.channels_last)))
        found += list(road.cloud.receive(sent.frames).logits.argmax(1).numpy())
    return found


def said(answer: dict) -> np.ndarray:
    """The same of an answer in JSON."""
    return np.asarray(answer["top"][0]["class"] if "top" in answer else Image.open(io.BytesIO(base64.b64decode(answer["map"]))))


class Meter:
    """Passes connections on to a server and counts their bytes."""

    def __init__(self, port: int):
        self.up = self.down = 0
        self.lock, self.server = threading.Lock(), socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, args=(port,), daemon=True).start()

    def _accept(self, port: int) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                here, there = self.server.accept()[0], socket.create_connection(("127.0.0.1", port))
                for ends, way in (((here, there), "up"), ((there, here), "down")):
                    threading.Thread(target=self._pass, args=(*ends, way), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self.lock:
                    setattr(self, way, getattr(self, way) + len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def cloud(task: str, benchmark: str, split_points: list[str]) -> Iterator[int]:
    """`spic cloud`; its port."""
    words = [sys.executable, "-m", "spic", "cloud", "--benchmark", benchmark, "--task", task, "--split_point", *split_points,
             "--compress_factor", "0", "--coder", "rans", "--tables", SHARED, "--port", "0", "--batch_ms", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = next((line for line in process.stdout if "answers streams" in line), "")
            if not line:
                raise SpicError(f"spic cloud ended with {process.wait()}")
            yield int(line.rstrip().rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()


def edge(source: list[str], port: int, pictures: list[str], batch: int) -> tuple[list[dict], dict]:
    """`spic edge`: a row for each picture, and the summary."""
    words = [sys.executable, "-m", "spic", "edge", source[0], f"127.0.0.1:{port}", *pictures, *source[1:], "--batch", str(batch), "--json"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SpicError(f"spic edge ended with {done.returncode}: {done.stderr.splitlines()[-1:]}")
    *rows, summary = map(json.loads, done.stdout.splitlines())
    return rows, summary["summary"]


def measure(args: argparse.Namespace, task: str, folder: Path) -> Iterator[dict]:
    benchmark = find(task, args.benchmark)
    data = benchmark.open_data(args.valdir, args.limit)
    paths = [str(path) for path in data.paths]
    with cloud(task, args.benchmark, args.split_point) as port:
        for name in args.split_point:
            (point,) = select(load_points(), task, args.benchmark, [name], ["0"])
            expected = in_one_process(benchmark, point, data)
            chosen = ["--task", task, "--benchmark", args.benchmark, "--split_point", name, "--compress_factor", "0", "--tables", SHARED]
            bundle = folder / f"{task}-{name}.zip"
            subprocess.run([sys.executable, "-m", "spic", "export", *chosen, "--output", str(bundle),
                            *(["--data", str(args.data)] if args.data else [])], check=True, stdout=subprocess.DEVNULL)
            for way, source in (("torch", [str(DICT_FILE), *chosen, "--coder", "rans"]), ("ONNX", [str(bundle)])):
                for batch in args.batch:
                    meter = Meter(port)
                    rows, summary = edge(source, meter.port, paths, batch)
                    yield compared(task, point, way, batch, dict(zip(paths, expected)), rows, summary, meter)


def compared(task, point, way, batch, expected, rows, summary, meter) -> dict:
    other = [np.count_nonzero(expected[row["picture"]] != said(row["answer"])) for row in rows]
    n = len(rows)
    if n != len(expected) or len({row["picture"] for row in rows}) != n:
        raise SpicError(f"{point.name}: {n} answers for {len(expected)} pictures")
    return {"task": task, "point": f"{point.split_point}/{point.compress_factor}", "edge": way, "batch": batch, "pictures": n,
            "other": sum(map(bool, other)), "values": f"{sum(other) / sum(v.size for v in expected.values()):.1e}",
            "payload": f"{summary['payload_bytes'] / n:.1f}", "body": f"{summary['stream_bytes'] / n:.1f}",
            "socket up": f"{meter.up / n:.0f}", "down": f"{meter.down / n:.0f}"}


def run(args: argparse.Namespace) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for task in args.task:
            for row in measure(args, task, Path(folder)):
                rows.append(row)
                print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print(aligned(rows), "bytes a picture; other: pictures with another answer; values: share of classes or pixels", sep="\n")
    if args.output:
        write_json(args.output, {"machine": describe(), "benchmark": args.benchmark, "rows": rows})


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser("bench/deployed.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--benchmark", default=EMBEDDED)
    add("--task", nargs="+", choices=TASKS, default=["classification"])
    add("--split_point", nargs="+", default=["S1", "S3"])
    add("--batch", type=positive, nargs="+", default=[1, 16], help="pictures in a stream")
    add("--valdir", type=Path, help="pictures of the benchmark")
    add("--data", type=Path, help="training pictures, on which the export is checked")
    add("--limit", type=positive, help="pictures, evenly spread")
    add("--output", type=Path, help="JSON of the table")
    return parser.parse_args(argv)


if __name__ == "__main__":
    arguments = parse()
    sys.exit(guarded(lambda: run(arguments)))
