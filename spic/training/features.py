"""What the frozen front gives for the training pictures, computed once and kept in files that are mapped into memory.

A set of features to learn from is bfloat16: half the memory, and the digits lost are far below a quantisation step.
Sets are kept under the cache folder up to SPIC_CACHE_GB (20), those least recently used going first; a set is found again by
the network's weights, the cut, and the pictures: their places, sizes and times of change, and how they are prepared.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from spic import cache
from spic.bottleneck import is_channels_last
from spic.datasets.images import evenly_spread
from spic.errors import SpicError
from spic.files import check_disk_space, exclusive, make_folder, stamp, write_json
from spic.networks import cut_many, trace
from spic.networks.cut import single
from spic.networks.weights import fingerprint
from spic.training.precision import autocast, fast_dtype

BATCH = 16
CPU = torch.device("cpu")
COMPLETE = "complete.json"  # written last


@dataclass(frozen=True)
class FeatureSet:
    """Features at one cut and their targets: labels [N], masks [N, H, W], or None.

    features: [N, C, h, w], [N, h, w, C], [N, tokens, D] or [N, D]. image_size: (H, W) of the network's input that they were
    made from. window: side, in cells of a feature [N, C, h, w], of the square that a batch shows, elsewhere in each batch;
    None: all of it.
    """

    features: Tensor
    targets: Tensor | None
    image_size: tuple[int, int]
    window: int | None = None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the feature of one picture."""
        return tuple(self.features.shape[1:])

    @property
    def in_planes(self) -> bool:
        """Whether it is [N, C, h, w]: rows and columns come last."""
        return self.features.ndim == 4 and not is_channels_last(self.shape, self.image_size)

    @property
    def moving(self) -> bool:
        """Whether a batch shows a part of each picture."""
        return self.window is not None and self.in_planes

    @property
    def pixels(self) -> int:
        """Input pixels behind what a batch shows of one picture."""
        if not self.moving:
            return math.prod(self.image_size)
        return math.prod(self._span(min(self.window, side)) for side in self.shape[-2:])

    def place(self, generator: torch.Generator) -> tuple[int, int] | None:
        """Where the window of the next batch lies: its first row and column, drawn; None without one."""
        if not self.moving:
            return None
        return tuple(int(torch.randint(max(side - self.window, 0) + 1, (), generator=generator)) for side in self.shape[-2:])

    def batch(self, indices: Tensor, place: tuple[int, int] | None) -> tuple[Tensor, Tensor | None]:
        """Features and targets of some pictures, all at the same place."""
        features, targets = self.features, self.targets
        if place is not None:
            features = features[(..., *(slice(start, start + self.window) for start in place))]
            if targets is not None and targets.ndim > 1:
                targets = targets[(slice(None), *map(self._pixels_of, place))]
        return features[indices], None if targets is None else targets[indices]

    def laid_out(self, feature: Tensor) -> Tensor:
        """A batch in the layout in which convolutions are fast."""
        return feature.contiguous(memory_format=torch.channels_last if self.in_planes else torch.contiguous_format)

    def _pixels_of(self, start: int) -> slice:
        return slice(start * self._stride, start * self._stride + self._span(self.window))

    @property
    def _stride(self) -> int:
        """Pixels from one cell to the next: corners of the picture are centres of cells."""
        return (self.image_size[0] - 1) // (self.shape[-2] - 1)

    def _span(self, cells: int) -> int:
        return (cells - 1) * self._stride + 1


class Views:
    """Network inputs made from a data set: item i is (image [3, H, W], target or None).

    crop: side of random square crops (fixed by ``seed``), ``per_image`` of them; None: the image as it is.
    limit: use only so many images, evenly spread. window: of the features made from them (FeatureSet).
    """

    def __init__(self, dataset, crop: int | None = None, per_image: int = 1, seed: int = 0, limit: int | None = None,
                 window: int | None = None):
        self.dataset, self.crop, self.per_image, self.seed, self.window = dataset, crop, per_image, seed, window
        self.indices = evenly_spread(range(len(dataset)), limit)

    def __len__(self) -> int:
        return len(self.indices) * self.per_image

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor | None]:
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
        """Changes when the views would: files replaced, other ones of the same names, another preparation."""
        kind = f"{type(self.dataset).__name__} {getattr(self.dataset, 'preparation', '')} {self.dataset.image_size}"
        return f"{stamp(self.dataset.paths[i] for i in self.indices)} {kind} {len(self.indices)} {self.crop} {self.per_image} {self.seed}"


Cut = str | tuple[str, ...]


def compute(network: nn.Module, cuts: Sequence[Cut], views: Views, threads: int, dtype: torch.dtype = torch.bfloat16,
            weights: str | None = None) -> dict[Cut, FeatureSet]:
    """Feature sets behind several cuts from one pass over the pictures; those in the cache are read back.

    network: a module, or what ``trace`` gave; weights: its fingerprint, if known. SpicError: several tensors cross a cut.
    """
    key = f"{weights or fingerprint(network)} {views.identity} {dtype} {_arithmetic(dtype)}"
    stores = {after: cache.FEATURES.folder / hashlib.sha256(f"{key} {after}".encode()).hexdigest()[:32] for after in cuts}
    with exclusive(cache.FEATURES.folder / ".lock"):  # who waits here finds them made
        missing = [after for after in cuts if not _is_whole(stores[after])]
        if missing:
            _fill(network, missing, views, threads, dtype, stores)
        return {after: _open(store, views.window) for after, store in stores.items()}


def _arithmetic(dtype: torch.dtype) -> torch.dtype:
    """Of the front: what is kept in float32 is computed in it, too."""
    return dtype if dtype == torch.float32 else fast_dtype(CPU)


def _fill(network: nn.Module, cuts: Sequence[Cut], views: Views, threads: int, dtype, stores: dict[Cut, Path]) -> None:
    image, target = views[0]
    stages, _, frontiers = cut_many(trace(network, image[None]), list(cuts), image[None])
    shapes = [(len(views), *single(frontier).shape) for frontier in frontiers]
    places = [stores[frontier.after] for frontier in frontiers]
    targets = None if target is None else torch.zeros(len(views), *target.shape, dtype=torch.int16)
    for place in places:
        cache.remove(place)
        make_folder(place)
    _make_room(sum(math.prod(shape) for shape in shapes) * dtype.itemsize, places)
    files = [_mapped(place / "features.bin", shape, dtype) for place, shape in zip(places, shapes)]

    def work(start: int) -> None:
        stop = min(start + BATCH, len(views))
        items = [views[i] for i in range(start, stop)]
        feature = torch.stack([item[0] for item in items]).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(CPU, _arithmetic(dtype)):
            for stage, file in zip(stages, files):
                feature = stage(feature)
                file[start:stop] = feature
        if targets is not None:
            targets[start:stop] = torch.stack([item[1] for item in items])

    for _ in in_threads(work, range(0, len(views), BATCH), threads, "features of the front"):
        pass
    for place, shape in zip(places, shapes):
        _complete(place, shape, dtype, targets, tuple(image.shape[-2:]))


def _make_room(need: int, places: Sequence[Path]) -> None:
    cache.FEATURES.make_room(need, keep=places)
    check_disk_space(places[0], need, "keeping the front's features")


def in_threads(work: Callable, items: Iterable, threads: int, what: str):
    """``work`` on all items, one single-threaded piece of torch per thread, under a progress bar."""
    items, before = list(items), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from tqdm(pool.map(work, items), what, len(items), unit="batch", leave=False)
    finally:
        torch.set_num_threads(before)


def _mapped(path: Path, shape: tuple[int, ...], dtype) -> Tensor:
    return torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=dtype).view(shape)


def _complete(store: Path, shape, dtype, targets: Tensor | None, image_size) -> None:
    if targets is not None:
        _mapped(store / "targets.bin", tuple(targets.shape), torch.int16).copy_(targets)
    write_json(store / COMPLETE, {"shape": shape, "dtype": str(dtype).removeprefix("torch."), "image_size": image_size,
                                  "targets": None if targets is None else list(targets.shape)})


def _is_whole(store: Path) -> bool:
    """Whether a set is there; one whose files are too short, too long or missing is not, and is made again."""
    try:
        note = json.loads((store / COMPLETE).read_text())
        sizes = {"features.bin": math.prod(note["shape"]) * getattr(torch, note["dtype"]).itemsize}
        if note["targets"] is not None:
            sizes["targets.bin"] = math.prod(note["targets"]) * torch.int16.itemsize
        return len(note["image_size"]) == 2 and all((store / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _open(store: Path, window: int | None) -> FeatureSet:
    note = json.loads((store / COMPLETE).read_text())
    cache.touch(store)
    try:
        features = _mapped(store / "features.bin", tuple(note["shape"]), getattr(torch, note["dtype"]))
        targets = None if note["targets"] is None else _mapped(store / "targets.bin", tuple(note["targets"]), torch.int16)
    except RuntimeError as error:
        raise SpicError(f"{store}: cannot be mapped into memory ({str(error).splitlines()[0]}); `spic cache clear features` "
                        "makes room") from None
    return FeatureSet(features, targets, tuple(note["image_size"]), window)
