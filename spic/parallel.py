"""Many processes on one task: torchrun (evaluation, bottlenecks), and teams of single-threaded ones (networks).

Evaluation: each image is evaluated by exactly one process; counts are added up at the end. Training one bottleneck: every
process takes its share of each batch, BatchNorm sees the statistics of the whole batch, gradients and counts are added up,
so that the result is that of one process but for the order in which floating-point numbers are added (and for the noise
that neural estimators draw). Training a network: a process per core, gradients averaged after every step.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from spic.errors import SpicError

# ---- torchrun ------------------------------------------------------------------------------------------------------


def start() -> None:
    """Join the process group if torchrun started this process; NCCL with a GPU, gloo without."""
    if "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, 0 when it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the body alone, the others after it: they find what it left in the cache."""
    if rank() > 0:
        dist.barrier()
    yield
    if dist.is_initialized() and rank() == 0:
        dist.barrier()


def rank_slice(length: int) -> range:
    """The indices this process evaluates: strided, without padding, so that no image counts twice."""
    return range(rank(), length, world())


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The element-wise sum of a CPU tensor over all processes; the tensor itself when there is only one."""
    if not dist.is_initialized():
        return tensor
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = tensor.to(device, copy=True)
    dist.all_reduce(total)
    return total.cpu()


def interleave_over_ranks(rows: list) -> list:
    """Rows of all processes in the order of the data set (the inverse of ``rank_slice``)."""
    if not dist.is_initialized():
        return rows
    parts: list = [None] * world()
    dist.all_gather_object(parts, rows)
    return [parts[i % world()][i // world()] for i in range(sum(map(len, parts)))]


# ---- one bottleneck, trained by all processes of torchrun ---------------------------------------------------------


class _Sum(torch.autograd.Function):
    """Sum over all processes, differentiable: the gradient is summed likewise."""

    @staticmethod
    def forward(context, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class WholeBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the shares of all processes; torch's own (SyncBatchNorm) runs on GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        count = x.new_tensor([x.numel() / x.shape[1]]).expand(x.shape[1])
        total, squares, count = _Sum.apply(torch.stack([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3)), count]))
        mean = total / count
        variance = (squares / count - mean * mean).clamp_min(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * scale.view(1, -1, 1, 1) + (self.bias - mean * scale).view(1, -1, 1, 1)


def join(module: nn.Module) -> nn.Module:
    """Make every BatchNorm of a module that learns see the whole batch; nothing to do for a single process."""
    if world() > 1:
        for norm in module.modules():
            if type(norm) is nn.BatchNorm2d:
                norm.__class__ = WholeBatchNorm
    return module


def share(indices: Tensor) -> Tensor:
    """The part of a batch that this process works on."""
    return indices[rank()::world()]


def add_gradients(module: nn.Module) -> None:
    """Replace each gradient by its sum over all processes."""
    if world() > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)


# ---- a team of processes of this machine ------------------------------------------------------------------------


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
