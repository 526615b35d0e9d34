"""Edge and Cloud: the two halves of the road. Nothing but bytes crosses from one to the other.

    image --> front --> encoder --> quantise --> coder.encode --> frame            (Edge)
                                                                   |
    logits <-- back <-- decoder <-- dequantise <-- coder.decode <--+               (Cloud)

On two machines: the edge sends ``edge.header`` once, then one frame per image; the cloud is made for the same
operating point, checks the header with ``cloud.open(header)``, then takes the frames.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spic.networks.weights import load_strictly, read_state_dict
from spic.bottleneck import Bottleneck, make_bottleneck
from spic.coding import make_coder
from spic.coding.tables import FrequencyTable
from spic.coding.stream import StreamHeader, StreamReader, StreamWriter
from spic.errors import SpicError, StreamError
from spic.files import verify_file
from spic.networks.fold import fold_batch_norm
from spic.networks.split import Back, Front, first, join, parts
from spic.points import DICT_FILE, ROOT, SHARED, OperatingPoint
from spic.published.importing import HOW_TO_GET
from spic.quantize import dequantize, quantize

_ADVICE = {"imagenet": HOW_TO_GET, "coco": HOW_TO_GET}


class Stopwatch:
    """Seconds spent per stage; on a GPU each stage ends with a synchronisation, so that it is charged its own time."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[stage] += time.perf_counter() - start


@dataclass(frozen=True)
class Sent:
    """One batch leaving the edge. Only ``frames`` would cross a network.

    ``symbols`` [B, channels, h, w] serve the check and the statistics; ``uncoded`` are the tensors that bypass the
    coder at the published segmentation S1, empty everywhere else.
    """

    frames: list[bytes]
    payload_bytes: list[int]
    symbols: Tensor
    uncoded: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Received:
    """One batch in the cloud: float32 logits, and the symbols [B, channels, h, w] decoded from the frames."""

    logits: Tensor
    symbols: Tensor


class Pipe:
    """A file whose written bytes are read back in order: the network cable of an evaluation in one process."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> None:
        self._bytes += data

    def read(self, count: int = -1) -> bytes:
        count = len(self._bytes) if count < 0 else count
        data = bytes(self._bytes[:count])
        del self._bytes[:count]
        return data


class Edge:
    """Images -> frames, on the camera or phone."""

    def __init__(self, front: Front, encoder: nn.Module, step: float, table: FrequencyTable, coder,
                 header: StreamHeader, device: torch.device):
        self.front, self.encoder, self.step, self.table, self.coder = front, encoder, step, table, coder
        self.watch = Stopwatch(device)
        self._wire = Pipe()
        self._writer = StreamWriter(self._wire, header)
        self.header = self._wire.read()

    def __call__(self, images: Tensor) -> Sent:
        """Normalised images [B, 3, H, W] -> one frame each."""
        with self.watch("front"):
            feature = self.front(images)
        return self.send(feature)

    def send(self, feature: Tensor | tuple[Tensor, ...]) -> Sent:
        """What the front gives -> one frame per image."""
        coded, uncoded = parts(feature)
        with self.watch("encoder"):
            symbols = quantize(self.encoder(coded), self.step)
        with self.watch("encode"):
            payloads = self.coder.encode(symbols.to(self.coder.device))
            frames = [self._frame(payload) for payload in payloads]
        return Sent(frames, [len(payload) for payload in payloads], symbols, uncoded)

    def close(self) -> bytes:
        """The end mark of the stream; without it the cloud takes the stream for cut off."""
        self._writer.close()
        return self._wire.read()

    def _frame(self, payload: bytes) -> bytes:
        self._writer.write(payload)
        return self._wire.read()


class Cloud:
    """Frames -> logits, on the server. ``grid``: (h, w) of the feature before it was coded."""

    def __init__(self, decoder: nn.Module, back: Back, step: float, coder, header: StreamHeader, grid: tuple[int, int],
                 device: torch.device):
        self.decoder, self.back, self.step, self.coder, self.expected = decoder, back, step, coder, header
        self.grid = grid
        self.watch = Stopwatch(device)
        self._wire = Pipe()
        self._reader: StreamReader | None = None

    def open(self, header: bytes) -> None:
        """Begin a stream; a header of another operating point, table, coder or shape is a StreamError."""
        self._wire.write(header)
        self._reader = StreamReader(self._wire, self.expected)

    def close(self, end: bytes) -> None:
        """End a stream; anything but the end mark is a StreamError."""
        self._wire.write(end)
        if self._reader.read() is not None:
            raise StreamError("a frame came where the end of the stream was expected")

    def __call__(self, frames: list[bytes]) -> Tensor:
        """Frames in the order they were sent -> logits, one row per image."""
        return self.receive(frames).logits

    def receive(self, frames: list[bytes], uncoded: tuple[Tensor, ...] = ()) -> Received:
        """Frames (and, at the published segmentation S1 alone, the tensors that bypassed the coder) -> logits."""
        if self._reader is None:
            raise SpicError("the cloud has seen no stream header yet; call open(header) first")
        with self.watch("decode"):
            payloads = [self._payload(frame) for frame in frames]
            symbols = torch.as_tensor(self.coder.decode(payloads, self.expected.shape))
        # fp32 under autocast too: a grouped transposed convolution in bf16 takes 25 times as long on a CPU
        with self.watch("decoder"), torch.autocast(self.watch.device.type, enabled=False):
            feature = self.decoder(dequantize(symbols.to(self.watch.device), self.step))
        with self.watch("back"):
            feature = join(self.back.place(feature, self.grid), uncoded)
            logits = self.back(feature, self.expected.image_size).float()
        return Received(logits, symbols)

    def _payload(self, frame: bytes) -> bytes:
        self._wire.write(frame)
        payload = self._reader.read()
        if payload is None:
            raise StreamError("the stream ended where a frame was expected")
        return payload


def make_halves(point: OperatingPoint, front: Front, back: Back, feature, image_size: tuple[int, int],
                coder_name: str, coder_device: str | None = None) -> tuple[Edge, Cloud]:
    """Edge and cloud of an operating point, its weights and table read from their files and checked.

    ``feature``: what the front gives for one image of ``image_size``; its device is where both halves will run.
    """
    coded = first(feature)
    bottleneck, table = load_point(point, coded.shape[1])
    fold_batch_norm(bottleneck).to(coded.device, memory_format=torch.channels_last)
    coder = make_coder(coder_name, table, coder_device, coded.device)
    with torch.inference_mode():
        symbols = quantize(bottleneck.encoder(coded), point.step)
        shape = tuple(symbols.shape[1:])
        coder.decode(coder.encode(symbols.to(coder.device)), shape)  # loads compiled kernels now, so that no image is charged for it
    header = StreamHeader(point.name, coder_name, table.digest, shape, image_size)
    edge = Edge(front, bottleneck.encoder, point.step, table, coder, header, coded.device)
    cloud = Cloud(bottleneck.decoder, back, point.step, coder, header, tuple(coded.shape[-2:]), coded.device)
    return edge, cloud


def load_point(point: OperatingPoint, in_channels: int) -> tuple[Bottleneck, FrequencyTable]:
    """The bottleneck in evaluation mode and the frequency table of an operating point, both checked."""
    return load_bottleneck(point, in_channels), load_table(point)


def load_bottleneck(point: OperatingPoint, in_channels: int) -> Bottleneck:
    """The bottleneck of an operating point in evaluation mode, its file checked."""
    weights = verify_file(point.weights, point.benchmark, _advice(point), point.root)
    bottleneck = make_bottleneck(point.task, point.location, in_channels, point.channels, point.stride)
    load_strictly(bottleneck, read_state_dict(weights), weights)
    return bottleneck.eval().requires_grad_(False)


def load_table(point: OperatingPoint) -> FrequencyTable:
    """The frequency table of an operating point, of the kind it asks for, its file and its step checked."""
    advice = _advice(point) if point.tables == SHARED else f"count it by: {_recount_command(point)}"
    table = FrequencyTable.load(verify_file(point.table, point.benchmark, advice, point.root))
    if not math.isclose(table.step, point.step, rel_tol=1e-6):
        raise SpicError(f"{point.table}: made for step {table.step}, but dict.yaml says {point.step} for {point.name}")
    return table


def _advice(point: OperatingPoint) -> str:
    return _ADVICE.get(point.benchmark, "train it (README, Training) or restore it from the repository")


def _recount_command(point: OperatingPoint) -> str:
    own = f" --points {point.root / DICT_FILE.name}" if point.root != ROOT else ""
    return (f"python -m spic.training.recount --task {point.task} --benchmark {point.benchmark} --split_point "
            f"{point.split_point} --compress_factor {point.compress_factor} --tables {point.tables}{own}")
