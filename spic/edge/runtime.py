"""The edge half of a bundle by ONNX Runtime: pictures → symbols. All points share the stages of the front in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spic.coding import FrequencyTable
from spic.coding.cpu import default_threads
from spic.coding.stream import StreamHeader
from spic.datasets.pictures import NumpyPreparation
from spic.edge.bundle import Bundle, BundlePoint
from spic.errors import SpicError, reason


@dataclass(frozen=True)
class EdgePoint:
    """An operating point as the edge knows it.

    quality: share of answers that are those of the uncompressed network, in percent, and payload_bytes of a picture: both
    as measured when the bundle was made, 0 where nobody has measured them.
    """

    header: StreamHeader
    table: FrequencyTable
    quality: float = 0.0
    payload_bytes: float = 0.0

    @property
    def name(self) -> str:
        return self.header.point


class OnnxHalf:
    """The edge halves of points of a bundle.

    points: as EdgePoints, numbered from 0. preparation: what becomes of a picture. SpicError: a file altered, a model that
    does not run here, or is none of this point.
    """

    def __init__(self, bundle: Bundle, points: Sequence[BundlePoint], threads: int | None = None):
        self.preparation: NumpyPreparation = bundle.manifest.preparation
        self.points = [EdgePoint(bundle.header(point), _table(bundle, point), *_measured(point)) for point in points]
        self._bundle, self._threads, self._sessions = bundle, threads or default_threads(), {}
        self._chains = [[self._session(name) for name in (*point.stages, point.encoder)] for point in points]

    def symbols(self, number: int, image: np.ndarray) -> np.ndarray:
        """A prepared picture, float32 [3, H, W] → int32 symbols [1, C, h, w] of point ``number``."""
        value, point = image[None], self.points[number]
        try:
            for session in self._chains[number]:
                (value,) = session.run(None, {session.get_inputs()[0].name: value})
        except Exception as error:  # onnxruntime has a dozen kinds, none documented as public
            raise SpicError(f"{self._bundle.path}: {point.name} does not run on this picture ({reason(error)}); export the "
                            "bundle again") from None
        if value.shape[1:] != point.header.shape or value.dtype != np.int32:
            raise SpicError(f"{self._bundle.path}: {point.name} gives {value.dtype} {list(value.shape)}, its manifest says "
                            f"int32 {[1, *point.header.shape]}: these are models of another network; export the bundle again")
        return value

    def _session(self, name: str):
        if name not in self._sessions:
            self._sessions[name] = session(self._bundle.read(name), self._threads, f"{self._bundle.path}: {name}")
        return self._sessions[name]


def session(model: bytes, threads: int, name: str):
    """An ONNX model, ready to run on the CPU; SpicError where it is none, or onnxruntime is not here."""
    try:
        import onnxruntime
    except ImportError:
        raise SpicError("onnxruntime is not installed, and a bundle needs it: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        version = onnxruntime.__version__
        raise SpicError(f"{name}: not a model that this onnxruntime ({version}) runs ({reason(error)})") from None


def _measured(point: BundlePoint) -> tuple[float, float]:
    found = (point.measured.get(key) for key in ("agreement", "payload_bytes"))
    return tuple(float(value) if isinstance(value, (int, float)) else 0.0 for value in found)


def _table(bundle: Bundle, point: BundlePoint) -> FrequencyTable:
    table = FrequencyTable.from_bytes(bundle.read(point.table), f"{bundle.path}: {point.table}")
    if table.digest != point.digest:
        raise SpicError(f"{bundle.path}: {point.table} is not the table that the manifest says of {point.name}; export it "
                        "again")
    return table
