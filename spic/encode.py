"""Pictures to Parquet: the payload of each at each operating point, ready to be sent or answered later (``spic encode``).

    spic encode photos/ --split_point S1 --compress_factor 0 1 --output coded
    spic encode photos/ --split_point S1 --answers --ray --replicas 2:16 --output coded

Without --ray one process does it, with it a Ray cluster (Ray Data), by the same code and to the same rows: pictures are coded
in the same batches whoever codes them. The output appears when it is whole; until then its finished parts lie in a hidden
folder beside it, and the same command goes on after them. A row for each picture and point:

    path     of the picture, in DATA                        point    such as classification/scenes/S1/0
    header   what the picture's stream begins with          payload  its coded symbols
    bpp      payload bits per pixel of the network's input  label    number of its class, where the folders tell
    answer   with --answers: JSON, as `spic cloud` says it  error    why there is no payload
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from spic.benchmarks import of_points
from spic.choice import add_points, chosen
from spic.cluster import ONE, Replicas, connected, note_missing, replicas
from spic.coding.stream import StreamHeader, write_stream
from spic.commands import Parser, guarded, positive
from spic.datasets.folder import open_folder
from spic.datasets.pictures import UnreadableImage, read_rgb
from spic.errors import SpicError
from spic.evaluate import Settings, check_numbers, lay_roads
from spic.files import cache_root, exclusive, make_folder, stamp, write_json
from spic.networks import trace
from spic.parts import check_files, require_splits
from spic.points import OperatingPoint
from spic.tasks import TASKS
from spic.val import check_training

ROWS_OF_A_PART = 8192
"""Of what one process writes at a time, and loses at most."""
PICTURES_OF_A_PART = 65536
"""The same for a cluster, which takes some seconds to begin."""
MOST_BLOCKS = 1000
"""Into so many blocks a part is divided at most for a cluster: what is lost with a machine is done again in blocks."""
WHAT, LOCK = ".run.json", ".lock"
"""In the folder of finished parts: what the run is of, and who works on it."""


def parser() -> argparse.ArgumentParser:
    parser = Parser("spic encode", formatter_class=argparse.HelpFormatter,
                    description="Code pictures at operating points of one network, to Parquet (docs/deploy.md).")
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, nargs="?", help="folder of pictures (default: the benchmark's own)")
    add("--output", type=Path, required=True, help="a FOLDER that is not there yet")
    add_points(add)
    add("--backbone_weights", type=Path, help="a state dict of the network (default: the shipped or official one)")
    add("--answers", action="store_true", help="also what the cloud half answers")
    add("--limit", type=positive, help="only N pictures, evenly spread over the folder")
    add("--batch_size", type=positive, help="pictures that are coded at a time (default: as val.py)")
    add("--ray", action="store_true", help="on a Ray cluster (RAY_ADDRESS, else this machine), whose machines all see DATA, "
        "the points and the output under the same names")
    add("--replicas", type=replicas, metavar="N|MIN:MAX", help="with --ray: processes that code, one processor each (default: 1)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    if args.replicas and not args.ray:
        raise SpicError("--replicas: says how many processes code with --ray; one does here")
    found = encode(chosen(args), args.data, args.output, coder=args.coder, weights=args.backbone_weights, answers=args.answers,
                   limit=args.limit, batch_size=args.batch_size, on=(args.replicas or ONE) if args.ray else None)
    print(text(found))
    if failed := next((row for row in found if row.failed), None):
        raise SpicError(f"{failed.failed} of {failed.pictures} pictures have no payload; the first: {failed.first_failure}")


def encode(points: Sequence[OperatingPoint], data: Path | None, output: Path, *, coder: str = "rans",
           weights: Path | None = None, answers: bool = False, limit: int | None = None, batch_size: int | None = None,
           on: Replicas | None = None) -> list[Counted]:
    """Write the folder ``output`` of Parquet files, whole or not at all; see the options of the command.

    on: how many processes of a Ray cluster, None for this one. What the files say is counted, a row for each point.
    """
    _require_packages()
    check_output(output)
    benchmark = of_points(list(points))
    require_splits(points)
    check_files(points)
    task = TASKS[benchmark.task]
    job = Job(tuple(points), coder, weights, answers)
    dataset = benchmark.open_data(None, limit) if data is None else open_folder(
        data, benchmark.preparation, benchmark.num_classes if benchmark.task == "classification" else None, limit)
    chunks = list(_chunks(dataset, (data or cache_root()).resolve(), batch_size or task.batch_size))
    unfinished = make_folder(output.with_name(f".{output.name[:200]}.unfinished"))
    with exclusive(unfinished / LOCK):
        try:
            check_output(output)  # which another process may have made while this one waited
            _require_same(unfinished / WHAT, _what(job, dataset.paths, len(chunks[0]["files"])))
            (_here if on is None else partial(_on_cluster, on=on))(job, chunks, unfinished)
            found = counted(unfinished, points)
            os.replace(unfinished, output)
            for name in (WHAT, LOCK):
                (output / name).unlink()
        finally:
            if not list(unfinished.glob("part-*")):
                shutil.rmtree(unfinished, ignore_errors=True)
    return found


def _what(job: Job, pictures: Sequence[Path], batch: int) -> dict:
    """What the rows depend on, by a name that a person knows."""
    files = [file for point in job.points for file in (point.weights, point.table)]
    return {"points": [point.name for point in job.points], "tables": [point.tables for point in job.points], "coder": job.coder,
            "weights and tables": stamp([*files, *([job.weights] if job.weights else [])]), "answers": job.answers,
            "pictures": stamp(pictures), "batch_size": batch}


def _require_same(path: Path, now: dict) -> None:
    """Note what a run is of, or refuse to go on with parts of another."""
    if not path.exists():
        write_json(path, now)
    try:
        before = json.loads(path.read_text())
        differing = [name for name in now if before.get(name) != now[name]]
    except (OSError, ValueError, AttributeError):
        differing = ["settings, or none that can be read"]
    if differing:
        raise SpicError(f"{path.parent}: finished parts of a run with other {', '.join(differing)}; remove this folder to begin anew")


def stream_of(header: bytes, payload: bytes) -> bytes:
    """The whole stream that a row stands for, as a cloud takes it."""
    return write_stream(StreamHeader.from_bytes(header), [payload])


# ---- pictures to rows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What is to be done with pictures, wherever it is done."""

    points: tuple[OperatingPoint, ...]
    coder: str
    weights: Path | None
    answers: bool


def schema():
    """Of the Parquet files."""
    import pyarrow as pa

    text, number = pa.string(), pa.int32()
    return pa.schema({"path": text, "point": text, "header": pa.binary(), "payload": pa.binary(), "bpp": pa.float64(),
                      "label": number, "answer": text, "error": text})


class Encoder:
    """Chunks of pictures -> rows. A chunk is a batch of the network, so that its rows depend on nothing else."""

    def __init__(self, job: Job):
        points = list(job.points)
        self.benchmark, self.job = of_points(points), job
        network = self.benchmark.build_network(job.weights)
        size = self.benchmark.image_size
        check_training(points, network, size)
        traced = trace(network, torch.zeros(1, 3, *size)).to(memory_format=torch.channels_last)
        self.stretches = lay_roads(self.benchmark, traced, points, size, Settings(job.coder, quiet=True))
        self.classes = self.benchmark.classes()

    def __call__(self, chunks):
        """As Ray Data calls it: a table of chunks -> a table of rows."""
        import pyarrow as pa

        return pa.concat_tables(map(self.table, chunks.to_pylist()))

    def table(self, chunk: dict):
        """{"files", "paths", "labels"}: lists of as many -> its rows."""
        import pyarrow as pa

        images, failures = self._read(chunk)
        about = [{"path": path, "label": label} for path, label in zip(chunk["paths"], chunk["labels"])]
        rows = [{**about[place], "point": point.name, "error": why} for place, why in failures.items() for point in self.job.points]
        if images:
            stacked = torch.stack(list(images.values())).contiguous(memory_format=torch.channels_last)
            rows += [{**about[place], **row} for row, place in self._coded(stacked, list(images))]
        return pa.Table.from_pylist(rows, schema())

    def _read(self, chunk: dict) -> tuple[dict[int, torch.Tensor], dict[int, str]]:
        """(network inputs, what is wrong with the others), by place in the chunk."""
        images, failures = {}, {}
        for place, file in enumerate(chunk["files"]):
            try:
                images[place] = self.benchmark.preparation(read_rgb(file))
            except UnreadableImage as error:
                failures[place] = str(error)
        return images, failures

    @torch.inference_mode()
    def _coded(self, feature: torch.Tensor, places: list[int]) -> Iterator[tuple[dict, int]]:
        """(the row's fields of what was coded, place in the chunk) of each picture at each point."""
        height, width = self.benchmark.image_size
        for stretch in self.stretches:
            feature = stretch.front(feature)
            for road in stretch.roads:
                payloads = road.edge.coder.encode(road.edge.encode(feature)[0].numpy())
                answers = self._answers(road, payloads) if self.job.answers else [None] * len(payloads)
                same = {"point": road.point.name, "header": road.edge.expected.to_bytes()}
                for payload, answer, place in zip(payloads, answers, places):
                    yield {**same, "payload": payload, "bpp": 8 * len(payload) / (height * width), "answer": answer}, place

    def _answers(self, road, payloads: list[bytes]) -> list[str]:
        """What the cloud half says to the very payloads."""
        logits = road.cloud.answer(road.cloud.symbols(payloads))
        check_numbers(logits, road.point.name)
        return [json.dumps(TASKS[self.benchmark.task].reply(row, self.classes)) for row in logits]


def _chunks(dataset, root: Path, size: int) -> Iterator[dict]:
    """The pictures in batches."""
    for start in range(0, len(dataset), size):
        places = range(start, min(start + size, len(dataset)))
        files = [Path(dataset.paths[place]).resolve() for place in places]
        yield {"files": [str(file) for file in files], "paths": [os.path.relpath(file, root) for file in files],
               "labels": [_label(dataset, place) for place in places]}


def _label(dataset, place: int) -> int | None:
    """The number of the picture's class, None where it has none or is a map of them."""
    label = dataset.label(place) if dataset.labelled and hasattr(dataset, "labels") else None
    return None if label is None else int(label)


# ---- who does it --------------------------------------------------------------------------------------------------


def _parts(chunks: Sequence[dict], size: int, folder: Path) -> Iterator[tuple[Path, int, Sequence[dict]]]:
    """(its folder, number of its first chunk, chunks) of each part that is not there yet; what its folder holds when this goes on is the finished part."""
    for start in range(0, len(chunks), size):
        place = folder / f"part-{start // size:05}"
        if not place.exists():
            scratch = folder / f".{place.name}"
            shutil.rmtree(scratch, ignore_errors=True)
            yield make_folder(scratch), start, chunks[start:start + size]
            os.replace(scratch, place)


def _here(job: Job, chunks: Sequence[dict], folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    encoder, size = Encoder(job), max(1, ROWS_OF_A_PART // len(job.points) // len(chunks[0]["files"]))
    with tqdm(desc="encode", total=len(chunks), unit="batch", disable=None) as bar:
        for place, start, part in _parts(chunks, size, folder):
            bar.update(start - bar.n)  # the finished parts before it
            tables = []
            for chunk in part:
                tables.append(encoder.table(chunk))
                bar.update()
            pq.write_table(pa.concat_tables(tables), place / "0.parquet")


def _on_cluster(job: Job, chunks: Sequence[dict], folder: Path, on: Replicas) -> None:
    size = max(1, PICTURES_OF_A_PART // len(chunks[0]["files"]))
    with connected("spic encode"):
        import ray

        note_missing(on.least)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = os.isatty(2)
        for place, _, part in _parts(chunks, size, folder):
            data = ray.data.from_items(list(part), override_num_blocks=min(len(part), MOST_BLOCKS))
            coded = data.map_batches(Encoder, fn_constructor_args=(job,), batch_size=1, batch_format="pyarrow", num_cpus=1,
                                     scheduling_strategy="SPREAD",
                                     compute=ray.data.ActorPoolStrategy(min_size=on.least, max_size=on.most))
            # writing must not wait for the processors that coding has
            coded.write_parquet(str(place.resolve()), ray_remote_args={"num_cpus": 0})


# ---- what came of it ----------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """Of a point. payload_bytes: of all pictures that have one. right: answers that are the label, of ``judged``."""

    point: str
    pictures: int = 0
    failed: int = 0
    payload_bytes: int = 0
    bits_per_pixel: float = 0.0
    right: int = 0
    judged: int = 0
    first_failure: str = ""

    def add(self, row: dict) -> None:
        """One picture."""
        self.pictures += 1
        if row["payload"] is None:
            self.failed += 1
            self.first_failure = self.first_failure or row["error"]
            return
        self.payload_bytes += len(row["payload"])
        self.bits_per_pixel += row["bpp"]
        if row["label"] is not None and row["answer"] is not None:
            self.judged += 1
            self.right += json.loads(row["answer"])["top"][0]["class"] == row["label"]


def counted(folder: Path, points: Iterable[OperatingPoint]) -> list[Counted]:
    """What the files in a folder say, read in parts."""
    import pyarrow.dataset as ds

    found = {point.name: Counted(point.name) for point in points}
    for batch in ds.dataset(folder, format="parquet").to_batches():
        for row in batch.to_pylist():
            found[row["point"]].add(row)
    return list(found.values())


def text(found: Sequence[Counted]) -> str:
    """A line for each point."""
    lines = []
    for one in found:
        coded = max(1, one.pictures - one.failed)
        right = f", {100 * one.right / one.judged:.2f} % of answers are the label" if one.judged else ""
        lines.append(f"{one.point}: {one.pictures - one.failed} pictures, {one.payload_bytes / coded:.1f} bytes each, "
                     f"{one.bits_per_pixel / coded:.5f} bpp{right}")
    return "\n".join(lines)


def check_output(folder: Path) -> None:
    """Before the work: where it cannot be written."""
    if folder.exists():
        raise SpicError(f"{folder}: is there already; choose another name, or remove it")
    make_folder(folder.parent)
    if not os.access(folder.parent, os.W_OK):
        raise SpicError(f"{folder.parent}: cannot be written; choose another place")


def _require_packages() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise SpicError("spic encode needs pyarrow: pip install 'spic-split[ray]'") from None
