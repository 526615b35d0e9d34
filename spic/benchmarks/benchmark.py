"""What a benchmark is: a task on a data set with a network, where its split points cut, and how its networks are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spic.bottleneck import Geometry
from spic.datasets.images import Preparation
from spic.errors import SpicError
from spic.files import verify_file
from spic.networks import zoo
from spic.networks.cut import Frontier, cut
from spic.networks.weights import load_strictly, read_state_dict
from spic.points import ROOT, OperatingPoint

TRAIN_ADVICE = ("take it from the repository (an installed spic carries the scenes alone; SPIC_ROOT=DIR names a checkout), "
                "or train it: spic backbone, spic grid")


@dataclass(frozen=True)
class Source:
    """Pictures that networks and bottlenecks are trained on.

    open: (data folder, split, limit) -> data set. backbone: the split that trains the network. bottlenecks: the split that
    trains bottlenecks, whose front sees ``crops`` (side, number per picture) or all of it, and whose back a moving
    ``window`` of the feature, in cells, or all of it. counted: on so many pictures of it, whole, symbols are counted.
    evaluation: the split that judges a backbone. exported: the split on which an export is calibrated and checked. stored:
    shorter side of the pictures kept in memory for augmentation; None keeps their size. left_out: patterns of names of
    files that nothing is ever trained on.
    """

    open: Callable
    backbone: str = "train"
    bottlenecks: str = "train"
    evaluation: str = "val"
    exported: str = "train"
    crops: tuple[int | None, int] = (None, 1)
    window: int | None = None
    counted: int = 2000
    stored: int | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cropping:
    """Random crops whose area is a share ``scale`` of the largest square (``of_square``) or of the whole picture."""

    scale: tuple[float, float]
    ratio: float = 4 / 3
    of_square: bool = False


@dataclass(frozen=True)
class Recipe:
    """How a benchmark's own network is trained; ``stages`` are (epochs, picture size).

    cycles: of the learning rate. start: the benchmark and task whose network gives the first weights.
    """

    stages: tuple[tuple[int, int], ...]
    cropping: Cropping
    batch: int = 96
    lr: float = 0.15
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    cycles: int = 1
    start: tuple[str, str] | None = None

    @property
    def epochs(self) -> int:
        return sum(epochs for epochs, _ in self.stages)

    def size(self, epoch: int) -> int:
        """Picture size in an epoch counted from 0."""
        for epochs, size in self.stages:
            if epoch < epochs:
                return size
            epoch -= epochs
        return self.stages[-1][1]


class Whole:
    """How what a front gives becomes what is coded: at a real split, all of it."""

    @staticmethod
    def parts(feature) -> tuple[Any, tuple]:
        """What a front gives -> (the tensor to code, the tensors that bypass the coder)."""
        return feature, ()

    @staticmethod
    def join(decoded, uncoded: tuple):
        """The inverse: what a back takes."""
        return decoded


def given(data: Path | None, name: str, advice: str = "") -> Path:
    """The folder of a public data set, which has to be named."""
    if data is None:
        raise SpicError(f"{name}: say where the pictures are with --valdir or --data DIR{advice and f' ({advice})'}")
    return data


@dataclass(frozen=True)
class Benchmark:
    """A task on a data set with a network.

    network: a name of the zoo. preparation: how any photo becomes its input. open_data: (folder or None, limit) -> the
    evaluation set. classes: gives the names of the classes, in order. palette: their colours, for tasks that paint.
    cuts: split point -> node or module after which the network is cut (several: all tensors that cross). geometry: split
    point -> a published geometry; others are derived. adapters: split points that are no splits. official: torchvision's
    weights; else the project ships its own in Weights/<name>/. how_to_get: advice where files of a point are missing.
    """

    task: str
    name: str
    network: str
    num_classes: int
    preparation: Preparation
    open_data: Callable
    classes: Callable[[], Sequence[str]]
    palette: Sequence[tuple[int, int, int]] = ()
    cuts: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    geometry: Mapping[str, Geometry] = field(default_factory=dict)
    adapters: Mapping[str, type[Whole]] = field(default_factory=dict)
    official: bool = False
    how_to_get: str = TRAIN_ADVICE
    source: Source | None = None
    recipe: Recipe | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the network's input."""
        return self.preparation.image_size

    @property
    def backbone_file(self) -> Path:
        """Where the project's own weights of the network lie."""
        return ROOT / "Weights" / self.name / f"{self.task}.safetensors"

    @property
    def training(self) -> Source:
        """Its own training pictures, and the views of pictures that bottlenecks learn from."""
        if self.source is None:
            raise SpicError(f"{self.name}: says nothing of training pictures for {self.task}; give the benchmark a source")
        return self.source

    def cut_after(self, point: OperatingPoint) -> str | tuple[str, ...]:
        """The node or module that the point's bottleneck sits behind."""
        cut = point.cut or self.cuts.get(point.location)
        if cut is None:
            raise SpicError(f"{point.name}: nobody says where {point.split_point} cuts {self.network}; name a node with "
                            f"`cut:` in dict.yaml or --cut (`spic splits {self.network}` lists them); the benchmark "
                            f"{self.name} itself has: {', '.join(self.cuts) or 'none'}")
        return cut

    def adapter(self, point: OperatingPoint) -> type[Whole]:
        """How the feature at the point is taken apart: whole, but for the one published split point that is none."""
        return Whole if point.cut else self.adapters.get(point.location, Whole)

    def geometry_of(self, point: OperatingPoint) -> Geometry | None:
        """The published geometry of the point's bottleneck, None where it is derived."""
        return None if point.cut or point.network else self.geometry.get(point.location)

    def build_network(self, weights: Path | str | None = None) -> nn.Module:
        """The uncompressed network in evaluation mode; weights: a file, or "random"; None: the official or shipped ones."""
        if weights or self.official:
            network = zoo.find(self.network).build(self.num_classes, weights or "default")
        else:
            network = self._empty()
            load_strictly(network, read_state_dict(self._shipped()), self._shipped())
        return network.eval().requires_grad_(False)

    @torch.inference_mode(False)
    def half(self, point: OperatingPoint, which: str, weights: Path | str | None = None) -> tuple[nn.Module, Frontier]:
        """One half ("front" or "back") of the network at the point, and what crosses.

        Only that half's weights are read where they lie in one of our files, or one that is named.
        """
        example = torch.zeros(1, 3, *self.image_size)
        file = weights if isinstance(weights, Path) else None if self.official else self._shipped()
        if file is None:
            front, back, frontier = cut(self.build_network(weights), self.cut_after(point), example)
            return {"front": front, "back": back}[which], frontier
        front, back, frontier = cut(self._empty().to("meta"), self.cut_after(point), example.to("meta"))
        half = {"front": front, "back": back}[which]
        load_strictly(half.to_empty(device="cpu"), read_state_dict(file, set(half.state_dict())), file)
        return half.eval().requires_grad_(False), frontier

    def of_network(self, network: str | None) -> Benchmark:
        """This benchmark's data with another network of the zoo."""
        if network in (None, self.network):
            return self
        return replace(self, network=network, cuts={}, geometry={}, adapters={}, official=True, recipe=None)

    def _empty(self) -> nn.Module:
        return zoo.find(self.network).build(self.num_classes, "random")

    def _shipped(self) -> Path:
        return verify_file(self.backbone_file, self.name, TRAIN_ADVICE, ROOT)
