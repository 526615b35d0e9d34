"""What the frozen front gives for the training pictures, computed once and kept in a file that is mapped into memory.

A set of features is bfloat16: half the memory, and the digits lost are far below a quantisation step.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic.datasets.images import evenly_spread
from spic.errors import SpicError
from spic.files import cache_root, check_disk_space, make_folder, write_whole
from spic.networks import cut_many
from spic.networks.weights import fingerprint

BATCH = 16


@dataclass(frozen=True)
class FeatureSet:
    """Features [N, C, h, w] at one split point and their targets: labels [N], masks [N, H, W], or None.

    ``image_size``: (H, W) of the network's input that the features were made from. ``window``: side, in cells of the
    feature, of the square that a batch shows, elsewhere in each batch; None: all of it.
    """

    features: Tensor
    targets: Tensor | None
    image_size: tuple[int, int]
    window: int | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def pixels(self) -> int:
        """Input pixels behind what a batch shows of one picture."""
        if self.window is None:
            return math.prod(self.image_size)
        return math.prod(self._span(min(self.window, side)) for side in self.features.shape[-2:])

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Features and targets of some pictures, all at the same window, whose place the generator draws."""
        features, targets = self.features, self.targets
        if self.window is not None:
            top, left = (int(torch.randint(max(side - self.window, 0) + 1, (), generator=generator))
                         for side in features.shape[-2:])
            features = features[:, :, top:top + self.window, left:left + self.window]
            if targets is not None and targets.ndim > 1:
                rows, columns = (slice(start * self._stride, start * self._stride + self._span(self.window))
                                 for start in (top, left))
                targets = targets[:, rows, columns]
        return features[indices], None if targets is None else targets[indices]

    @property
    def _stride(self) -> int:
        """Pixels from one cell to the next: corners of the picture are centres of cells."""
        return (self.image_size[0] - 1) // (self.features.shape[-2] - 1)

    def _span(self, cells: int) -> int:
        return (cells - 1) * self._stride + 1


class Views:
    """Network inputs made from a data set: item i is (image [3, H, W], target or None).

    ``crop``: side of random square crops (fixed by ``seed``), ``per_image`` of them; None: the image as it is.
    ``limit``: use only so many images, evenly spread. ``window``: of the features made from them (FeatureSet).
    """

    def __init__(self, dataset, crop: int | None = None, per_image: int = 1, seed: int = 0, limit: int | None = None,
                 window: int | None = None):
        self.dataset, self.crop, self.per_image, self.seed, self.window = dataset, crop, per_image, seed, window
        self.indices = evenly_spread(range(len(dataset)), limit)

    def __len__(self) -> int:
        return len(self.indices) * self.per_image

    def __getitem__(self, index: int):
        item = self.dataset[self.indices[index // self.per_image]]
        image, target = item if isinstance(item, tuple) else (item, None)
        target = None if target is None else torch.as_tensor(target)
        return (image, target) if self.crop is None else self._cropped(index, image, target)

    def _cropped(self, index: int, image: Tensor, target: Tensor | None):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        top, left = (int(torch.randint(side - self.crop + 1, (), generator=generator)) for side in image.shape[-2:])
        window = (..., slice(top, top + self.crop), slice(left, left + self.crop))
        return image[window], target[window] if target is not None and target.ndim else target

    @property
    def identity(self) -> str:
        """Changes when the views would."""
        paths = hashlib.sha256("\n".join(map(str, self.dataset.paths)).encode()).hexdigest()
        return f"{paths} {len(self.indices)} {self.crop} {self.per_image} {self.seed} {self.dataset.image_size}"


def compute(network: nn.Module, cuts: list[str], views: Views, threads: int, dtype=torch.bfloat16,
            folder: Path | None = None) -> dict[str, FeatureSet]:
    """Feature sets at several cuts (in order of depth) from one pass; those already in the cache are read back."""
    folder = folder or cache_root() / "features"
    key = hashlib.sha256(f"{fingerprint(network)} {views.identity} {dtype}".encode()).hexdigest()[:24]
    stores = {name: folder / f"{key}-{name}" for name in cuts}
    missing = [name for name in cuts if not (stores[name] / "complete.json").exists()]
    if missing:
        _fill(network, missing, views, threads, dtype, stores)
    return {name: _open(stores[name], views.window) for name in cuts}


def _fill(network, cuts: list[str], views: Views, threads: int, dtype, stores: dict[str, Path]) -> None:
    fronts, _ = cut_many(network, cuts)
    image, target = views[0]
    shapes = _shapes(fronts, image)
    need = sum(len(views) * math.prod(shape) * dtype.itemsize for shape in shapes)
    for name in cuts:
        make_folder(stores[name])
    check_disk_space(stores[cuts[0]], need, "keeping the front's features")
    files = [_mapped(stores[name] / "features.bin", (len(views), *shape), dtype) for name, shape in zip(cuts, shapes)]
    targets = None if target is None else torch.zeros(len(views), *target.shape, dtype=torch.int16)

    def work(start: int) -> int:
        stop = min(start + BATCH, len(views))
        items = [views[i] for i in range(start, stop)]
        feature = torch.stack([item[0] for item in items]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            for front, file in zip(fronts, files):
                feature = front(feature)
                file[start:stop] = feature
        if targets is not None:
            targets[start:stop] = torch.stack([item[1] for item in items])
        return stop - start

    for _ in in_threads(work, range(0, len(views), BATCH), threads, "features of the front"):
        pass
    for name, shape in zip(cuts, shapes):
        _complete(stores[name], (len(views), *shape), dtype, targets, tuple(image.shape[-2:]))


@torch.inference_mode()
def _shapes(fronts, image: Tensor) -> list[tuple[int, ...]]:
    feature, shapes = image[None], []
    for front in fronts:
        feature = front(feature)
        shapes.append(tuple(feature.shape[1:]))
    return shapes


def in_threads(work: Callable, items: Iterable, threads: int, what: str):
    """``work`` on all items, one single-threaded piece of torch per thread, under a progress bar."""
    items, before = list(items), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from tqdm(pool.map(work, items), what, len(items), unit="batch")
    finally:
        torch.set_num_threads(before)


def _mapped(path: Path, shape: tuple[int, ...], dtype) -> Tensor:
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=dtype).view(shape)


def _complete(store: Path, shape, dtype, targets: Tensor | None, image_size) -> None:
    if targets is not None:
        _mapped(store / "targets.bin", tuple(targets.shape), torch.int16).copy_(targets)
    note = {"shape": shape, "dtype": str(dtype).removeprefix("torch."), "image_size": image_size,
            "targets": None if targets is None else list(targets.shape)}
    write_whole(store / "complete.json", json.dumps(note).encode())


def _open(store: Path, window: int | None) -> FeatureSet:
    try:
        note = json.loads((store / "complete.json").read_text())
        features = _mapped(store / "features.bin", note["shape"], getattr(torch, note["dtype"]))
        targets = None if note["targets"] is None else _mapped(store / "targets.bin", note["targets"], torch.int16)
        return FeatureSet(features, targets, tuple(note["image_size"]), window)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SpicError(f"{store}: damaged features ({error}); delete that folder") from None
