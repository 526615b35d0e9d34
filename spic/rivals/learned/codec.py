"""A trained rival as a codec of single pictures, and the rival whose network goes on behind the student's decoder.

    codec = LearnedCodec(store.read(root, benchmark, "variational"))
    data = codec.encode(image, quality=0)       # quality: number of the rate
    codec.decode(data)                          # the picture, or with a student the feature

A coded picture: rate (1 byte), height and width (2 each), the length (4) of every string but the last, the strings.
"""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from spic.rivals.anatomy import Parts
from spic.rivals.evaluate import PixelRival
from spic.rivals.inputs import check_quality, check_rgb8
from spic.rivals.learned.networks import VERSION
from spic.rivals.learned.store import Trained
from spic.errors import StreamError
from spic.networks.cost import cost
from spic.networks.fold import fold_batch_norm

HEADER = struct.Struct("<BHH")
LENGTH = struct.Struct("<I")
MAX_PIXELS = 1 << 24


class LearnedCodec:
    """One signature with the other codecs; its bytes come from compressai's entropy coder."""

    quality_name, chroma, holds_gil = "rate", "4:4:4", False

    def __init__(self, trained: Trained, device: torch.device = torch.device("cpu")):
        self.name, self.device, self.digest = trained.curve, device, trained.digest
        self.networks = [fold_batch_norm(copy.deepcopy(network)).to(device) for network in trained.networks]
        self.sweep = tuple(range(len(self.networks)))
        self.quality_range = (0, len(self.networks) - 1)
        weights = ", ".join(f"{weight:g}" for weight in trained.recipe["lambdas"])
        self.settings = f"trained at lambda {weights}, one rate each; tables of the entropy coder are not sent"
        self.prefix = HEADER.size + LENGTH.size * (self.networks[0].strings - 1)

    def version(self) -> str:
        return f"compressai {VERSION}, weights {self.digest}"

    @torch.inference_mode()
    def encode(self, image: np.ndarray, quality: int) -> bytes:
        rate, image = check_quality(self, quality), check_rgb8(image)
        network = self.networks[rate]
        coded = network.compress(network.inputs(image).to(self.device))
        strings = [batch[0] for batch in coded["strings"]]
        lengths = b"".join(LENGTH.pack(len(string)) for string in strings[:-1])
        return HEADER.pack(rate, *image.shape[:2]) + lengths + b"".join(strings)

    @torch.inference_mode()
    def decode(self, data: bytes) -> np.ndarray:
        """StreamError for a header that `encode` did not write."""
        if len(data) < self.prefix:
            raise StreamError(f"{self.name}: {len(data)} bytes are no coded picture")
        rate, height, width = HEADER.unpack_from(data)
        if rate >= len(self.networks) or not 0 < height * width <= MAX_PIXELS:
            raise StreamError(f"{self.name}: no coded picture has rate {rate} and {height}x{width} pixels")
        network = self.networks[rate]
        decoded = network.decompress([[string] for string in self._strings(data)], network.latent_shape(height, width))
        return network.received(decoded, height, width)

    def _strings(self, data: bytes) -> list[bytes]:
        lengths = struct.unpack_from(f"<{self.networks[0].strings - 1}I", data, HEADER.size)
        strings, position = [], self.prefix
        for length in lengths:
            strings.append(data[position : position + length])
            position += length
        if position > len(data):
            raise StreamError(f"{self.name}: strings of {lengths} bytes do not fit into {len(data)}")
        return [*strings, data[position:]]

    def parts(self, data: bytes) -> Parts:
        return Parts(len(data) - self.prefix, self.prefix, 0)

    def edge_cost(self, image_size: tuple[int, int]) -> dict[str, int]:
        """Parameters and multiply-accumulates of what the edge runs; all rates are alike."""
        network = self.networks[0]
        parameters = sum(p.numel() for module in network.edge_modules() for p in module.parameters())
        shape = tuple(network.inputs(np.zeros((*image_size, 3), np.uint8)).shape[-2:])
        return {"edge_parameters": parameters, "edge_macs": cost(_Analysis(network), shape)["macs"]}


class _Analysis(nn.Module):
    """Image → latent: the edge's networks in order, for counting."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.analysis(image)


@dataclass
class StudentRival(PixelRival):
    """The codec carries the student's latent; ``rest(feature)`` answers from the decoded feature."""

    rest: nn.Module = field(default=None, repr=False)

    def cloud(self, received: list[np.ndarray]) -> Tensor:
        if received[0].dtype == np.uint8:  # pictures that no codec touched: the uncompressed network's turn
            return super().cloud(received)
        feature = torch.from_numpy(np.stack(received)).to(self.device, memory_format=torch.channels_last)
        return self.rest(feature)
