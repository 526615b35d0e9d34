"""What a learned rival is trained for: a lesson says which modules learn, and the loss of a batch of crops."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spic.datasets.images import normalise
from spic.datasets.pictures import SCALED
from spic.errors import SpicError
from spic.networks import cut, cut_many
from spic.networks.cut import answers
from spic.rivals.learned.recipes import Recipe
from spic.training.distortion import Output, distill_loss

DENSITY_LR = 5.0  # times that of the other layers: densities have few parameters, and they begin far from where they end


def example(side: int) -> Tensor:
    """A picture of the size at which halves are cut for training."""
    return torch.zeros(1, 3, side, side)


def bits_per_pixel(likelihoods: dict[str, Tensor], images: Tensor) -> Tensor:
    return sum(-likelihood.log2().sum() for likelihood in likelihoods.values()) / (images.numel() // 3)


def _groups(model: nn.Module) -> list[dict]:
    """Parameters for an optimiser, with the factor of their learning rate."""
    groups: dict[float, list] = {1.0: [], DENSITY_LR: []}
    for name, parameter in model.named_parameters():
        groups[DENSITY_LR if name.startswith("entropy_bottleneck.") else 1.0].append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


class Autoencoding:
    """Pictures that look alike: bpp + lambda · 255² · mean squared error, as in compressai's own training."""

    def __init__(self, model: nn.Module, weight: float, network: nn.Module | None, recipe: Recipe,
                 task_loss: Callable | None = None):
        if recipe.crop % model.downsampling_factor:
            raise SpicError(f"--crop {recipe.crop}: must be a multiple of {model.downsampling_factor}")
        self.learning, self.groups, self.weight = {"model": model.train()}, _groups(model), weight

    def loss(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """uint8 images [B, 3, H, W] → named terms; ``loss`` is what is minimised."""
        model = self.learning["model"]
        x = model.scaled(images)
        out = model(x)
        error = F.mse_loss(out["x_hat"].float(), x)
        bpp = bits_per_pixel(out["likelihoods"], images)
        return {"loss": bpp + self.weight * 255**2 * error, "bpp": bpp, "psnr": -10 * error.log10()}


class Distilling:
    """The student's first stage: features like the frozen network's, where it ends and at later modules (taps).

    Each error is relative to the feature's variance, so that beta means the same for every network.
    """

    def __init__(self, model: nn.Module, weight: float, network: nn.Module, recipe: Recipe,
                 task_loss: Callable | None = None):
        self.learning, self.groups, self.weight = {"model": model.train()}, _groups(model), weight
        (self.front, *self.later), *_ = cut_many(network, [recipe.cut, *recipe.taps], example(recipe.crop))

    def loss(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        x = normalise(images, rounding=SCALED)
        out = self.learning["model"](x)
        student, errors = out["feature"], []
        with torch.no_grad():
            teacher = self.front(x)
        for stretch in (nn.Identity(), *self.later):
            student = stretch(student)
            with torch.no_grad():
                teacher = stretch(teacher)
            errors.append(F.mse_loss(student.float(), teacher.float()) / teacher.float().var().clamp_min(1e-6))
        error, bpp = sum(errors) / len(errors), bits_per_pixel(out["likelihoods"], images)
        return {"loss": error + self.weight * bpp, "bpp": bpp, "error": error}


class Finetuning:
    """The second stage: encoder and density frozen, latents rounded; the decoder learns the task from labels and from the
    uncompressed network's answers, and so does the rest of the network with ``finetune: all``.

    BatchNorm keeps the statistics it has: batches are small.
    """

    def __init__(self, model: nn.Module, weight: float, network: nn.Module, recipe: Recipe, task_loss: Callable):
        self.model, self.task_loss = model.eval().requires_grad_(False), task_loss
        model.decoder.requires_grad_(True)
        self.front, back, _ = cut(network, recipe.cut, example(recipe.crop))
        self.learning, self.teacher = {"decoder": model.decoder}, answers(back)
        self.rest = self.teacher
        if recipe.finetune == "all":
            self.learning["rest"] = model.rest.eval().requires_grad_(True)
            self.rest = answers(model.rest)
        self.groups = [{"params": list(part.parameters()), "factor": 1.0} for part in self.learning.values()]

    def loss(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        x = normalise(images, rounding=SCALED)
        with torch.no_grad():
            latent, _ = self.model.entropy_bottleneck(self.model.encoder(x))
            teacher = Output(*self.teacher(self.front(x)))
        student = Output(*self.rest(self.model.decoder(latent)))
        task, distillation = self.task_loss(student.logits, targets), distill_loss(student, teacher)
        return {"loss": task + distillation, "task": task, "distillation": distillation}


LESSONS = {"variational": (Autoencoding,), "hyperprior": (Autoencoding,), "student": (Distilling, Finetuning)}
