"""Frequency tables, counted on training pictures by the road of inference, and the files of a trained bottleneck."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from spic.bottleneck import Bottleneck
from spic.coding.counting import KINDS, SymbolCounter
from spic.coding.tables import FrequencyTable
from spic.files import catalogue, record_checksums, write_whole
from spic.networks.fold import fold_batch_norm
from spic.points import ROOT, SHARED, Key, beside, record_point
from spic.quantize import quantize

BATCH = 16


def encoded(encoder: nn.Module, features: Tensor) -> Iterator[Tensor]:
    """What is quantised on the edge, batch by batch, for float32 features [N, ...]: BatchNorm is folded there."""
    encoder = fold_batch_norm(copy.deepcopy(encoder).eval())
    for batch in features.split(BATCH):
        with torch.inference_mode():
            feature = encoder(batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch)
        yield feature


def count_tables(encoder: nn.Module, features: Tensor, step: float, kinds: Iterable[str]) -> dict[str, FrequencyTable]:
    """The tables of several kinds of an encoder's symbols, counted in one pass."""
    counters = {kind: SymbolCounter(kind, encoder.signed) for kind in kinds}
    for feature in encoded(encoder, features):
        symbols = quantize(feature, step).numpy()
        for counter in counters.values():
            counter.add(symbols)
    return {kind: FrequencyTable.from_counter(counter, step) for kind, counter in counters.items()}


def file_names(task: str, benchmark: str, split_point: str, factor: int) -> dict[str, str]:
    """Where weights and table of a point lie, relative to the root."""
    return {"weights": f"Weights/{benchmark}/{split_point}/{task}_{factor}.safetensors",
            "table": f"Freq_tab/{benchmark}/{split_point}/{task}_{factor}.json"}


def rounded_to_half(bottleneck: Bottleneck) -> Bottleneck:
    """The bottleneck with the parameters that its file will hold: float16, half the size."""
    state = {name: value.half().to(value.dtype) if value.is_floating_point() else value
             for name, value in bottleneck.state_dict().items()}
    bottleneck.load_state_dict(state)
    return bottleneck


def write_point(bottleneck: Bottleneck, table: FrequencyTable, key: Key, root: Path = ROOT, settings: Mapping[str, str] = {},
                about: Mapping[str, str] | None = None, weights_key: Key | None = None) -> None:
    """Weights, shared table, checksums and the entry in dict.yaml of one operating point; the entry comes last.

    settings: what the entry says beyond numbers and files (network, cut, activation). about: what the weights file says of
    the network that they were trained behind. weights_key: the point under whose name the weights lie, if not this one.
    Tables of other kinds that belonged to earlier weights are deleted.
    """
    names = {**file_names(*key), "weights": file_names(*(weights_key or key))["weights"]}
    write_whole(root / names["weights"], _with_metadata(save(half_state(bottleneck)), about or {}))
    stale = [beside(root / names["table"], kind) for kind in KINDS if kind != SHARED]
    for file in stale:
        file.unlink(missing_ok=True)
    table.save(root / names["table"])
    encoder = bottleneck.encoder
    geometry = {"stride": encoder.stride, "channels": encoder.channels}
    entry = {"step": table.step, **geometry, **names, **settings}
    record_checksums(key[1], [*stale, *(root / name for name in names.values())], root)
    with catalogue():
        record_point(root / "dict.yaml", key, entry)


def _with_metadata(file: bytes, about: Mapping[str, str]) -> bytes:
    """A safetensors file that says more of itself; the library would write that in an order that changes from run to run."""
    if not about:
        return file
    length = int.from_bytes(file[:8], "little")
    header = {"__metadata__": dict(sorted(about.items())), **json.loads(file[8:8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[8 + length:]


def write_tables(tables: Mapping[str, FrequencyTable], shared: Path, benchmark: str, root: Path = ROOT) -> list[Path]:
    """Tables of several kinds beside the place of the shared one, with their checksums; the files written."""
    files = [beside(shared, kind) for kind in tables]
    for file, table in zip(files, tables.values()):
        table.save(file)
    record_checksums(benchmark, files, root)
    return files


def half_state(bottleneck: Bottleneck) -> dict[str, Tensor]:
    """The state dict in float16; counters of batches, which nothing reads, are kept."""
    return {name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in bottleneck.state_dict().items()}
