"""Frequency tables, counted on training pictures by the road of inference, and the files of a trained bottleneck."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import save
from torch import Tensor, nn

from spic.bottleneck import Bottleneck
from spic.coding.frequency import FrequencyTable, SymbolCounter
from spic.datasets import cache
from spic.networks.fold import fold_batch_norm
from spic.points import ROOT, TASKS, record_checksums, write_atomically
from spic.quantize import quantize

BATCH = 16


@torch.inference_mode()
def count_table(encoder: nn.Module, features: Tensor, step: float, tables: str = "shared") -> FrequencyTable:
    """The table of an encoder's symbols for float32 features [N, C, h, w], BatchNorm folded as on the edge."""
    encoder = fold_batch_norm(copy.deepcopy(encoder).eval())
    counter = SymbolCounter(tables)
    for batch in features.split(BATCH):
        counter.add(quantize(encoder(batch.contiguous(memory_format=torch.channels_last)), step))
    return counter.table(step)


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


def write_point(bottleneck: Bottleneck, table: FrequencyTable, task: str, benchmark: str, split_point: str,
                factor: int, root: Path = ROOT) -> None:
    """Weights, table, checksums and the entry in dict.yaml of one operating point; the entry comes last."""
    names = file_names(task, benchmark, split_point, factor)
    write_atomically(root / names["weights"], save(half_state(bottleneck)))
    (root / names["table"]).parent.mkdir(parents=True, exist_ok=True)
    table.save(root / names["table"])
    encoder = bottleneck.encoder
    geometry = {"stride": encoder.depthwise.stride[0], "channels": encoder.pointwise.out_channels}
    entry = {"step": table.step, **geometry, **names}
    with cache.exclusive(cache.cache_root() / "catalogue.lock"):
        record_checksums(benchmark, [root / name for name in names.values()], root)
        record_entry(root / "dict.yaml", (task, benchmark, split_point, factor), entry)


def half_state(bottleneck: Bottleneck) -> dict[str, Tensor]:
    """The state dict in float16; counters of batches, which nothing reads, are kept."""
    return {name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in bottleneck.state_dict().items()}


def record_entry(path: Path, keys: tuple[str, str, str, int], entry: dict) -> None:
    """Put one operating point into a dict.yaml, sorted into place; comments at the head of the file stay."""
    text = path.read_text() if path.exists() else ""
    tree = OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else {}
    task, benchmark, split_point, factor = keys
    factors = tree.setdefault(task, {}).setdefault(benchmark, {}).setdefault(split_point, {})
    factors[factor] = entry
    head = [line for line in text.splitlines() if line.startswith("#")]
    write_atomically(path, ("\n".join([*head, *_lines(tree)]) + "\n").encode())


def _lines(tree: dict):
    for task in sorted(tree, key=TASKS.index):
        yield f"{task}:"
        for benchmark, splits in tree[task].items():
            yield f"  {benchmark}:"
            for split_point in sorted(splits):
                yield f"    {split_point}:"
                for factor, entry in sorted(splits[split_point].items()):
                    yield f"      {factor}: {{{', '.join(f'{key}: {value}' for key, value in entry.items())}}}"
