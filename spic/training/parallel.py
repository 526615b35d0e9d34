"""Data-parallel training on the cores of one machine: a process per core, gradients averaged after every step.

One single-threaded process per core outruns one process with as many threads: it waits for the others once per step, not
once per layer, so that it also keeps its speed beside other programs.
"""

from __future__ import annotations

import multiprocessing.connection
import os
import threading
from dataclasses import dataclass

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from spic.errors import SpicError


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Team:
    """One process of several that work alike: ``board`` [size, capacity] is memory all of them see."""

    rank: int
    size: int
    barrier: threading.Barrier
    board: Tensor
    parent: int

    def mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes; the same bits in each of them."""
        if os.getppid() != self.parent:
            raise SystemExit("the process that started this one is gone")
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        self.board[self.rank, :len(flat)] = flat
        self.barrier.wait()
        mean = self.board[:, :len(flat)].mean(dim=0)
        self.barrier.wait()  # nobody writes again before all have read
        for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors])):
            tensor.detach().copy_(part.view(tensor.shape))

    def mean_gradients(self, network: nn.Module) -> None:
        self.mean([p.grad for p in network.parameters() if p.grad is not None])

    def mean_statistics(self, network: nn.Module) -> None:
        """Each process saw other pictures: their BatchNorm statistics are averaged."""
        self.mean([b for b in network.buffers() if b.is_floating_point()])


def launch(work, size: int, capacity: int, *arguments) -> None:
    """Run ``work(team, *arguments)`` in ``size`` processes that share this one's memory, and wait for them.

    ``capacity``: the most numbers a team ever averages at once. A SpicError of any process is raised here.
    """
    torch.set_num_threads(1)  # before the fork: a child cannot use the parent's threads
    context = mp.get_context("fork")
    messages, barrier = context.SimpleQueue(), context.Barrier(size)
    board = torch.empty(size, capacity).share_memory_()
    processes = [context.Process(target=_member, args=(work, Team(rank, size, barrier, board, os.getpid()), messages, arguments))
                 for rank in range(size)]
    for process in processes:
        process.start()
    _wait(processes, messages)


def _member(work, team: Team, messages, arguments) -> None:
    try:
        work(team, *arguments)
    except SpicError as error:
        messages.put(str(error))
        raise SystemExit(1) from None


def _wait(processes, messages) -> None:
    """Until all are done; when one fails, the others, who would wait for it for ever, are ended."""
    try:
        while alive := [process.sentinel for process in processes if process.is_alive()]:
            multiprocessing.connection.wait(alive)
            if any(process.exitcode for process in processes):
                break
    finally:
        for process in processes:
            process.terminate()
            process.join()
    if not messages.empty():
        raise SpicError(messages.get())
    if any(process.exitcode for process in processes):
        raise SpicError("a training process ended early (out of memory?); run again to resume")
