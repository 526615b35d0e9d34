"""Many processes (torchrun): each image is evaluated by exactly one of them; counts are added up at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


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
