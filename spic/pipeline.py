"""Edge and Cloud: the two halves of the road. Nothing but bytes crosses from one to the other.

    image --> front --> encoder --> quantise --> coder.encode --> frame            (Edge)
                                                                   |
    logits <-- back <-- decoder <-- dequantise <-- coder.decode <--+               (Cloud)

On two machines, each half is made from its own files alone:

    edge = Edge.load(point, "rans")                     cloud = Cloud.load(point, "rans")
    edge.header          # sent once                    cloud.open(header)
    edge(images).frames  # one bytes object per image   logits = cloud(frames)
    edge.close()         # the end mark                 cloud.close(end)
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spic.benchmarks import Benchmark, Whole, of_points
from spic.bottleneck import Bottleneck
from spic.coding import Coder, FrequencyTable, make_coder
from spic.coding.stream import FrameReader, FrameWriter, StreamHeader
from spic.errors import SpicError, StreamError
from spic.parts import Parts, load_bottleneck, load_table, ready
from spic.points import OperatingPoint
from spic.quantize import dequantize, quantize


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

    symbols: int32 [B, channels, h, w], for the check and the statistics. uncoded: the tensors that bypass the coder at the
    published segmentation S1, empty everywhere else.
    """

    frames: list[bytes]
    payload_bytes: list[int]
    symbols: Tensor
    uncoded: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Received:
    """One batch in the cloud: float32 logits, and the symbols int32 [B, channels, h, w] decoded from the frames."""

    logits: Tensor
    symbols: Tensor


class Edge:
    """Images -> frames, on the camera or phone.

    front, encoder: the modules. header: what the stream will be; its image size and symbol shape are enforced.
    adapter: how the front's answer is taken apart, see spic.benchmarks.Whole.
    """

    def __init__(self, front: nn.Module, encoder: nn.Module, step: float, table: FrequencyTable, coder: Coder,
                 header: StreamHeader, device: torch.device, adapter: type[Whole] = Whole, rdo: float = 0.0):
        if not 0 <= rdo < math.inf:
            raise SpicError(f"{header.point}: rdo {rdo}: must be a number from 0 (off) on, such as 0.1")
        self.rdo = rdo
        self.front, self.encoder, self.step, self.table, self.coder = front, encoder, step, table, coder
        self.device, self.adapter, self.expected = device, adapter, header
        self.watch = Stopwatch(device)
        self.restart()

    @classmethod
    def load(cls, point: OperatingPoint, coder: str = "huffman", device: str | torch.device = "cpu",
             weights: Path | str | None = None, coder_device: str | None = None, rdo: float = 0.0) -> Edge:
        """The edge of an operating point from its own files: the front's weights, the encoder's, and the table.

        weights: a file with the network's, None for the benchmark's. SpicError: a file missing or altered, no split.
        """
        (edge,) = load_edges([point], coder, device, weights, coder_device, rdo)
        return edge

    @property
    def header(self) -> bytes:
        """What the cloud gets first, once for a stream."""
        return self._writer.header

    def restart(self) -> bytes:
        """Begin a new stream, as for a cloud that was restarted; returns the header."""
        self._writer = FrameWriter(self.expected)
        return self.header

    def __call__(self, images: Tensor) -> Sent:
        """Normalised float32 images [B, 3, H, W] of the header's size -> one frame each."""
        self._check_images(images)
        with self.watch("front"):
            feature = self.front(images)
        return self.send(feature)

    def send(self, feature: Tensor | tuple[Tensor, ...]) -> Sent:
        """What the front gives -> one frame per image."""
        symbols, uncoded = self.encode(feature)
        with self.watch("encode"):
            payloads = self.coder.encode(_for_coder(symbols, self.coder))
            frames = [self._writer.frame(payload) for payload in payloads]
        return Sent(frames, [len(payload) for payload in payloads], symbols, uncoded)

    def encode(self, feature: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the front gives -> (symbols int32 [B, channels, h, w], tensors that bypass the coder)."""
        coded, uncoded = self.adapter.parts(feature)
        with self.watch("encoder"):
            encoded = self.encoder(coded)
            self._check_encoded(encoded, coded)
            symbols = self._symbols(encoded)
        return symbols, uncoded

    def _symbols(self, encoded: Tensor) -> Tensor:
        """The nearest, or with ``rdo`` those that are worth their bits."""
        symbols = quantize(encoded, self.step)
        if not self.rdo:
            return symbols
        from spic.coding.rdo import choose  # compiles at first use; only who asks for it waits

        steps = (encoded.float() / self.step).cpu().numpy()
        return torch.from_numpy(choose(steps, symbols.cpu().numpy(), self.table, self.rdo)).to(symbols.device)

    def close(self) -> bytes:
        """The end mark of the stream; without it the cloud takes the stream for cut off."""
        return self._writer.end()

    def _check_images(self, images: Tensor) -> None:
        wanted = (3, *self.expected.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted or images.dtype != torch.float32:
            raise SpicError(f"{self.expected.point}: the edge takes float32 images [B, {', '.join(map(str, wanted))}], not "
                            f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}: prepare them as the network's "
                            "input, or load a point made for that size")

    def _check_encoded(self, encoded: Tensor, feature: Tensor) -> None:
        if tuple(encoded.shape[1:]) != self.expected.shape:
            raise SpicError(f"{self.expected.point}: symbols of shape {tuple(encoded.shape[1:])}, but the stream's header says "
                            f"{self.expected.shape}: the feature is that of another image size or network")
        if not torch.isfinite(encoded).all():
            raise SpicError(f"{self.expected.point}: {_not_finite(feature, self.front, self.encoder)}")


class Cloud:
    """Frames -> logits, on the server.

    header: the only stream that is accepted. After any error in a batch nothing of the batch counts as received.
    """

    def __init__(self, decoder: nn.Module, back: nn.Module, step: float, coder: Coder, header: StreamHeader,
                 device: torch.device, adapter: type[Whole] = Whole):
        self.decoder, self.back, self.step, self.coder, self.expected = decoder, back, step, coder, header
        self.device, self.adapter = device, adapter
        self.watch = Stopwatch(device)
        self._reader: FrameReader | None = None

    @classmethod
    def load(cls, point: OperatingPoint, coder: str = "huffman", device: str | torch.device = "cpu",
             weights: Path | str | None = None, coder_device: str | None = None) -> Cloud:
        """The cloud of an operating point from its own files: the back's weights, the decoder's, and the table."""
        (cloud,) = load_clouds([point], [coder], device, weights, coder_device)
        return cloud

    def open(self, header: bytes) -> None:
        """Begin a stream, whatever came before; a header of another point, table, coder or shape is a StreamError."""
        self._reader = None
        theirs = StreamHeader.from_bytes(header)
        theirs.require(self.expected)
        self._reader = FrameReader(theirs)

    def close(self, end: bytes) -> None:
        """End a stream; anything but the end mark is a StreamError."""
        self._opened().end(end)
        self._reader = None

    def __call__(self, frames: Sequence[bytes]) -> Tensor:
        """Frames in the order they were sent -> logits, one row per image."""
        return self.receive(frames).logits

    def receive(self, frames: Sequence[bytes], uncoded: tuple[Tensor, ...] = ()) -> Received:
        """Frames (and, at the published segmentation S1 alone, the tensors that bypassed the coder) -> logits."""
        with self.watch("decode"):
            symbols = self.decode(frames)
        return Received(self.answer(symbols, uncoded), symbols)

    def decode(self, frames: Sequence[bytes]) -> Tensor:
        """Frames -> symbols int32 [B, channels, h, w]; a damaged one is a StreamError, and then none counts as received."""
        reader = self._opened()
        place = reader.frames
        try:
            return self.symbols(reader.payloads(frames))
        except StreamError:
            reader.frames = place
            raise

    def symbols(self, payloads: Sequence[bytes]) -> Tensor:
        """Payloads, taken out of their frames -> symbols int32 [B, channels, h, w]; a damaged one is a StreamError."""
        return torch.as_tensor(self.coder.decode(payloads, self.expected.shape))

    def answer(self, symbols: Tensor, uncoded: tuple[Tensor, ...] = ()) -> Tensor:
        """Symbols -> float32 logits."""
        # fp32 under autocast too: a grouped transposed convolution in bf16 takes 25 times as long on a CPU
        with self.watch("decoder"), torch.autocast(self.device.type, enabled=False):
            feature = self.decoder(dequantize(symbols.to(self.device), self.step))
        with self.watch("back"):
            return self.back(self.adapter.join(self.decoder.place(feature), uncoded)).float()

    def _opened(self) -> FrameReader:
        if self._reader is None:
            raise SpicError("the cloud has seen no stream header yet, or the stream was closed; call open(header) first")
        return self._reader


def load_edges(points: Sequence[OperatingPoint], coder: str, device: str | torch.device = "cpu",
               weights: Path | str | None = None, coder_device: str | None = None, rdo: float = 0.0) -> list[Edge]:
    """The edges of operating points, each from its own files alone.

    Points whose network is cut at one place share one front in memory, those of one weights file (which differ in their step
    and table) one encoder.
    """
    device, parts, edges = torch.device(device), Parts("front", "encoder", weights), []
    for point in points:
        front, bottleneck = parts.of(point, device)
        table = load_table(point)
        header = stream_header(point, coder, table, bottleneck, of_points([point]).image_size)
        edges.append(Edge(front, bottleneck.encoder, point.step, table, make_coder(coder, table, coder_device, device), header,
                          device, rdo=rdo))
    return edges


def load_clouds(points: Sequence[OperatingPoint], coders: Sequence[str], device: str | torch.device = "cpu",
                weights: Path | str | None = None, coder_device: str | None = None) -> list[Cloud]:
    """The clouds of operating points, one for each coder, each from its own files alone.

    Points whose network is cut at one place share one back in memory, the coders of a point and points of one weights file
    one decoder.
    """
    device, parts, clouds = torch.device(device), Parts("back", "decoder", weights), []
    for point in points:
        back, bottleneck = parts.of(point, device)
        table = load_table(point)
        for coder in coders:
            header = stream_header(point, coder, table, bottleneck, of_points([point]).image_size)
            clouds.append(Cloud(bottleneck.decoder, back, point.step, make_coder(coder, table, coder_device, device), header,
                                device))
    return clouds


def _for_coder(symbols: Tensor, coder: Coder):
    """As the coder takes them: where its engine runs."""
    return symbols.cpu().numpy() if coder.device == "cpu" else symbols.to(coder.device)


def _not_finite(feature: Tensor, front: nn.Module, encoder: nn.Module) -> str:
    """Which part first gives something that is no number."""
    for what, module in (("front's", front), ("encoder's", encoder)):
        wrong = [name for name, value in module.state_dict().items()
                 if value.is_floating_point() and not torch.isfinite(value).all()]
        if wrong:
            return f"the {what} weights are not all numbers ({wrong[0]} holds NaN or infinity); get that file again"
    return ("the front's feature is not a number everywhere: look at the images that go in" if not
            torch.isfinite(feature).all() else "the encoder's output is not a number everywhere; train that point again")


# ---- halves in one process, which share a network in memory ---------------------------------------------------------


def make_halves(point: OperatingPoint, benchmark: Benchmark, front: nn.Module, back: nn.Module, feature,
                image_size: tuple[int, int], coder_name: str, coder_device: str | None = None,
                rdo: float = 0.0) -> tuple[Edge, Cloud]:
    """Edge and cloud of an operating point around the halves of a network, its files read and checked.

    feature: what the front gives for one image of ``image_size``; its device is where both halves will run.
    """
    adapter = benchmark.adapter(point)
    coded, _ = adapter.parts(feature)
    bottleneck, table = load_bottleneck(point, benchmark, tuple(coded.shape[1:]), image_size), load_table(point)
    ready(bottleneck.encoder, coded.device), ready(bottleneck.decoder, coded.device)
    coder = make_coder(coder_name, table, coder_device, coded.device)
    header = stream_header(point, coder_name, table, bottleneck, image_size)
    edge = Edge(front, bottleneck.encoder, point.step, table, coder, header, coded.device, adapter, rdo)
    cloud = Cloud(bottleneck.decoder, back, point.step, coder, header, coded.device, adapter)
    _warm_up(edge, feature)
    return edge, cloud


@torch.inference_mode()
def _warm_up(edge: Edge, feature) -> None:
    """Loads compiled kernels now, so that no image is charged for it."""
    symbols, _ = edge.encode(feature)
    edge.coder.decode(edge.coder.encode(_for_coder(symbols, edge.coder)), edge.expected.shape)
    edge.watch.seconds.clear()


def stream_header(point: OperatingPoint, coder: str, table: FrequencyTable, bottleneck: Bottleneck,
                  image_size: tuple[int, int]) -> StreamHeader:
    """What both ends of a point's streams agree on."""
    return StreamHeader(point.name, coder, table.digest, bottleneck.encoder.shape, tuple(image_size))
