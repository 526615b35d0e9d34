"""Training one bottleneck by several processes (torchrun): the same step as one process takes, each on its share of a batch.

BatchNorm sees the statistics of the whole batch, gradients and counts are added up, so that the result is that of one
process but for the order in which floating-point numbers are added (and for the noise that neural estimators draw).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spic import parallel


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
    if parallel.world() > 1:
        for norm in module.modules():
            if type(norm) is nn.BatchNorm2d:
                norm.__class__ = WholeBatchNorm
    return module


def share(indices: Tensor) -> Tensor:
    """The part of a batch that this process works on."""
    return indices[parallel.rank()::parallel.world()]


def add_gradients(module: nn.Module) -> None:
    """Replace each gradient by its sum over all processes."""
    if parallel.world() > 1:
        for parameter in module.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
