"""The edge half by torch, where there is no bundle: the only file of the edge that needs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from spic.benchmarks import of_points
from spic.edge.runtime import EdgePoint
from spic.pipeline import load_edges
from spic.points import OperatingPoint


class TorchHalf:
    """As OnnxHalf, from operating points of one network; see load_edges for what they share. weights: a file with the
    network's, None for the benchmark's."""

    def __init__(self, points: Sequence[OperatingPoint], coder: str, weights: Path | None = None):
        self.preparation = of_points(list(points)).preparation
        self._edges = load_edges(points, coder, weights=weights)
        self.points = [EdgePoint(edge.expected, edge.table) for edge in self._edges]

    @torch.inference_mode()
    def symbols(self, number: int, image: np.ndarray) -> np.ndarray:
        """A prepared picture, float32 [3, H, W] → int32 symbols [1, C, h, w] of point ``number``."""
        edge = self._edges[number]
        images = torch.from_numpy(image)[None].contiguous(memory_format=torch.channels_last)
        return edge.encode(edge.front(images))[0].numpy()
