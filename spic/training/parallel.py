"""Data-parallel training on the cores of one machine: a process per core, gradients averaged after every step.

One single-threaded process per core outruns one process with as many threads: it waits for the others once per step,
not once per layer, so that it also keeps its speed beside other programs. The averaging is torch.distributed's (gloo).
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from spic.errors import SpicError


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Team:
    """One process of several that work alike."""

    rank: int
    size: int
    parent: int

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; the same bits in each of them."""
        if os.getppid() != self.parent:
            raise SystemExit("the process that started this one is gone")
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, (flat / self.size).split([tensor.numel() for tensor in tensors])):
            tensor.detach().copy_(part.view(tensor.shape))

    def mean_gradients(self, network: nn.Module) -> None:
        self.mean([p.grad for p in network.parameters() if p.grad is not None])

    def mean_statistics(self, network: nn.Module) -> None:
        """Each process saw other pictures: their BatchNorm statistics are averaged."""
        self.mean([b for b in network.buffers() if b.is_floating_point()])


def launch(work, size: int, *arguments) -> None:
    """Run ``work(team, *arguments)`` in ``size`` processes that share this one's memory, and wait for them.

    A SpicError of any process is raised here; the others, who would wait for it for ever, are ended.
    """
    torch.set_num_threads(1)  # before the fork: a child cannot use the parent's threads
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{Path(folder, 'meeting')}"
        try:
            mp.start_processes(_member, (size, meeting, os.getpid(), work, arguments), size, start_method="fork")
        except mp.ProcessRaisedException as error:
            raise SpicError(str(error).strip().splitlines()[-1].partition(": ")[2]) from None
        except mp.ProcessExitedException:
            raise SpicError("a training process ended early (out of memory?); run again to resume") from None


def _member(rank: int, size: int, meeting: str, parent: int, work, arguments) -> None:
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    work(Team(rank, size, parent), *arguments)
    dist.destroy_process_group()
