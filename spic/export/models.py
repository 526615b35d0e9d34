"""The halves of operating points as ONNX models: the bytes of each file of a bundle.

The front is cut at every split point that is exported: stage 0 leads from the picture to the first one, stage 1 from there
to the second. So points of all split points share one front, on disk and in memory. Each point has an encoder, which ends
with the quantiser: what leaves it is int32, round(x / step), half to even.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spic.errors import SpicError, reason
from spic.evaluate import Road, Stretch
from spic.quantize import dequantize, quantize

INPUT, OUTPUT = "input", "output"
MOST_BYTES = 2 << 30
"""protobuf, and so ONNX, allows no larger model in one file."""


class Symbols(nn.Module):
    """What an encoder gives → int32 symbols [1, C, h, w]."""

    def __init__(self, step: float):
        super().__init__()
        self.step = step

    def forward(self, encoded: Tensor) -> Tensor:
        return quantize(encoded, self.step)


class Feature(nn.Module):
    """Dequantiser and decoder: int32 symbols [1, C, h, w] → the feature for the back."""

    def __init__(self, decoder: nn.Module, step: float):
        super().__init__()
        self.decoder, self.step = decoder, step

    def forward(self, symbols: Tensor) -> Tensor:
        return self.decoder.place(self.decoder(dequantize(symbols, self.step)))


def require_packages() -> None:
    """Before the work: what ``spic export`` needs beside torch."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError:
            raise SpicError(f"{name} is not installed, and an export needs it: pip install 'spic-split[export]'") from None


def to_onnx(module: nn.Module, example: Tensor, what: str) -> bytes:
    """A module that takes one tensor, for inputs of the example's shape."""
    try:
        with _quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(module, (example.clone().contiguous(),), dynamo=True, verbose=False,
                                        input_names=[INPUT], output_names=[OUTPUT])
        data = program.model_proto.SerializeToString()
    except Exception as error:  # torch.export and onnxscript refuse with many kinds
        raise SpicError(f"{what}: torch.onnx cannot export it ({reason(error)})") from None
    if len(data) > MOST_BYTES:
        raise SpicError(f"{what}: {len(data) >> 20} MiB, and an ONNX file holds at most {MOST_BYTES >> 20}")
    return data


@contextmanager
def _quiet():
    """The exporter tells of its own steps, on both streams and by warnings."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def stage_name(number: int) -> str:
    return f"stage{number}.onnx"


def stage_models(stretches: list[Stretch], image: Tensor) -> dict[str, bytes]:
    """File → model of each stage of the front; image: float32 [1, 3, H, W]."""
    models, feature = {}, image
    for number, stretch in enumerate(stretches):
        models[stage_name(number)] = to_onnx(stretch.front, feature, f"the front's stage {number}")
        with torch.inference_mode():
            feature = stretch.front(feature)
    return models


def encoder_model(road: Road, feature: Tensor, quantised: bool = True) -> bytes:
    """The encoder of a point, its quantiser included or not."""
    encoder = nn.Sequential(road.edge.encoder, Symbols(road.edge.step)) if quantised else road.edge.encoder
    return to_onnx(encoder, feature, f"{road.point.name}: the encoder")


def quantiser_model(road: Road) -> bytes:
    """The quantiser of a point whose encoder other points share."""
    encoded = torch.zeros(1, *road.edge.expected.shape)
    return to_onnx(Symbols(road.edge.step), encoded, f"{road.point.name}: the quantiser")


def decoder_model(road: Road) -> bytes:
    """The decoder of a point, dequantiser included."""
    symbols = torch.zeros(1, *road.edge.expected.shape, dtype=torch.int32)
    return to_onnx(Feature(road.cloud.decoder, road.cloud.step), symbols, f"{road.point.name}: the decoder")


def back_model(road: Road) -> bytes:
    """The rest of the network behind a split point."""
    with torch.inference_mode():
        feature = Feature(road.cloud.decoder, road.cloud.step)(torch.zeros(1, *road.edge.expected.shape, dtype=torch.int32))
    return to_onnx(road.cloud.back, feature, f"{road.point.name}: the back")


# ---- whole numbers ------------------------------------------------------------------------------------------------


def quantised(model: bytes, inputs: Iterable[np.ndarray], what: str) -> bytes:
    """The same model in 8-bit whole numbers, statically quantised by ONNX Runtime; inputs: what it meets, to calibrate."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, prepared, whole = (str(Path(folder) / name) for name in ("plain.onnx", "prepared.onnx", "whole.onnx"))
        try:
            Path(plain).write_bytes(model)  # given a model in memory it loses the weights of some
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            quantize_static(prepared, whole, _Reader(inputs), QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8,
                            weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax)
        except Exception as error:
            raise SpicError(f"{what}: onnxruntime cannot quantise it ({reason(error)}); export without --int8") from None
        return Path(whole).read_bytes()


class _Reader:
    """Inputs as onnxruntime's calibration asks for them."""

    def __init__(self, inputs: Iterable[np.ndarray]):
        self._inputs = iter(inputs)

    def get_next(self) -> dict | None:
        value = next(self._inputs, None)
        return None if value is None else {INPUT: value}
