"""Operating points that are served: payloads of one or more requests in, what is said of each picture out."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spic.benchmarks import Benchmark, of_points
from spic.coding.stream import StreamHeader
from spic.errors import StreamError
from spic.parts import check_files, is_split, require_splits
from spic.pipeline import Cloud, load_clouds
from spic.points import OperatingPoint
from spic.tasks import TASKS, Task

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of mallopt(3)."""

Replies = list[dict] | StreamError
"""What is said of the pictures of one request, or what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Served:
    """One operating point with one coder.

    names: of the classes. batch: pictures that are computed at a time, as many as val.py takes.
    """

    point: OperatingPoint
    cloud: Cloud
    benchmark: Benchmark
    names: Sequence[str]

    @property
    def header(self) -> StreamHeader:
        """The only streams that are answered."""
        return self.cloud.expected

    @property
    def task(self) -> Task:
        return TASKS[self.point.task]

    @property
    def batch(self) -> int:
        return self.task.batch_size

    def about(self) -> dict:
        """Its entry of /v1/points."""
        told = asdict(self.header)
        return {"name": told.pop("point"), "task": self.point.task, "benchmark": self.point.benchmark, **told}

    @property
    def colours(self) -> dict | None:
        """Names and colours of the classes, for tasks that paint."""
        palette = [list(colour) for colour in self.benchmark.palette]
        return {"names": list(self.names), "palette": palette} if palette else None

    @torch.inference_mode()
    def compute(self, parts: Sequence[list[bytes]]) -> tuple[list[Replies], dict[str, float]]:
        """Payloads of several requests -> (replies of each, seconds per stage). A damaged request spoils no other."""
        watch = self.cloud.watch
        watch.seconds.clear()
        with watch("decode"):
            decoded = [self._decoded(payloads) for payloads in parts]
        whole = [symbols for symbols in decoded if isinstance(symbols, Tensor)]
        logits = self.cloud.answer(torch.cat(whole)).cpu() if whole else ()
        with watch("reply"):
            replies = iter([self._reply(row) for row in logits])
            results = [_together([next(replies) for _ in symbols]) if isinstance(symbols, Tensor) else symbols
                       for symbols in decoded]
        return results, dict(watch.seconds)

    def _decoded(self, payloads: list[bytes]) -> Tensor | StreamError:
        try:
            return self.cloud.symbols(payloads)
        except StreamError as error:
            return error

    def _reply(self, logits: Tensor) -> dict | StreamError:
        if not torch.isfinite(logits.sum()) and not torch.isfinite(logits).all():  # all are asked where the sum is none
            return StreamError("the network's answer is not a number: symbols far beyond those of any picture")
        return self.task.reply(logits, self.names)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Builds the coder's tables and loads compiled kernels now, so that no request waits for it."""
        symbols = np.zeros((1, *self.header.shape), np.int32)
        coder = self.cloud.coder
        nothing = symbols if coder.device == "cpu" else torch.as_tensor(symbols, device=coder.device)
        self.cloud.answer(torch.as_tensor(coder.decode(coder.encode(nothing), self.header.shape)))


def _together(replies: list[dict | StreamError]) -> Replies:
    return next((reply for reply in replies if isinstance(reply, StreamError)), replies)


def servable(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """Those that are splits, their files checked; SpicError where none is."""
    found = [point for point in points if is_split(point)]
    if not found:
        require_splits(points)
    check_files(found)
    return found


def _keep_memory() -> None:
    """Large blocks stay with this process when a layer is through with them. As it is, glibc gives them back, and the system clears
    them for the next layer: a fifth of the processor time of segmentation. Nothing happens where there is no glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def load_served(points: Sequence[OperatingPoint], coders: Sequence[str], device: torch.device,
                weights: Path | None = None) -> list[Served]:
    """The points with each coder, their files checked; networks that are cut at one place are one in memory."""
    points = servable(points)
    _keep_memory()
    clouds = iter(load_clouds(points, coders, device, weights))
    served = [Served(point, next(clouds), benchmark, benchmark.classes())
              for point in points for benchmark in [of_points([point])] for _ in coders]
    for one in served:
        one.warm_up()
    return served
