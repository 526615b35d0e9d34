"""A name becomes a network: ``torchvision:resnet18``, ``timm:...``, ``narrow:resnet50/0.25``, or your own function.

    torchvision:NAME             classification and segmentation networks of torchvision
    timm:NAME                    networks of timm, where that is installed
    narrow:NAME/WIDTH            this project's ResNet-50 and DeepLabV3-ResNet-50, all channels scaled by WIDTH
    path/to/file.py:FUNCTION     what your function returns: a torch.nn.Module. This runs the code in that file
    package.module:FUNCTION      the same, from an installed package
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models
from torchvision.transforms._presets import ImageClassification

from spic.errors import SpicError, reason
from spic.networks import narrow
from spic.networks.weights import load_strictly, read_state_dict

_IMAGENET = ImageClassification(crop_size=224)
_SEGMENTATION_CROP = 513  # as published
_SEGMENTATION = "segmentation"
_CLASSIFICATION = "classification"
# These redraw all weights slowly when built without any, or expect another input scale with their own weights.
_WITHOUT_WEIGHTS = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
_WITH_WEIGHTS_OF_A_FILE = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}
_NARROW = {"resnet50": (narrow.resnet50, _CLASSIFICATION, 1000),
           "deeplabv3_resnet50": (narrow.deeplabv3_resnet50, _SEGMENTATION, 21)}


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the network's input: shorter side to ``resize``, centre crop, 0..1, (x - mean) / std."""

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = tuple(_IMAGENET.mean)
    std: tuple[float, ...] = tuple(_IMAGENET.std)


@dataclass(frozen=True)
class NetworkSpec:
    """A network by its name, before it is built.

    ``task``: classification or segmentation; None where only the built network can tell (``guess_task``). ``classes``:
    names in the order of the logits, where they are known. ``num_classes``: None where they are the author's secret.
    """

    name: str
    task: str | None
    make: Callable[..., nn.Module] = field(repr=False)
    default: Callable[[], nn.Module] = field(repr=False)
    input: InputSpec = InputSpec()
    num_classes: int | None = None
    classes: tuple[str, ...] = ()

    def build(self, num_classes: int | None = None, weights: str | Path | None = None, seed: int = 0) -> nn.Module:
        """The network in evaluation mode, without gradients.

        ``weights``: "random" or None (drawn by ``seed``), "default" (the library's best, downloaded), or a file.
        ``num_classes``: another number of outputs. SpicError: weights that cannot be had, or do not fit.
        """
        if weights == "default":
            if num_classes not in (None, self.num_classes):
                raise SpicError(f"{self.name}: the default weights know {self.num_classes} classes, not {num_classes}; pass a "
                                "file of weights, or random")
            network = self.default()
        else:
            state = None if weights in (None, "random") else read_state_dict(Path(weights))
            network = self._made(num_classes, state, seed)
            if state is not None:
                load_strictly(network, state, weights)
        return network.eval().requires_grad_(False)

    def _made(self, num_classes: int | None, state: dict | None, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.make(num_classes, state)
        if not isinstance(network, nn.Module):
            raise SpicError(f"{self.name} gives a {type(network).__name__}; it has to give a torch.nn.Module")
        return network


def find(name: str) -> NetworkSpec:
    """The network of that name; an unknown one is an error that lists the nearest."""
    home, colon, rest = name.rpartition(":")
    if not colon:
        raise SpicError(f"unknown network {name!r}; {_nearest(name, _torchvision_names(), 'torchvision:')}; or write "
                        "timm:NAME, narrow:NAME/WIDTH, FILE.py:FUNCTION")
    homes = {"torchvision": _torchvision, "timm": _timm, "narrow": _narrow}
    return homes[home](rest) if home in homes else _own(name, home, rest)


def guess_task(output_shape: tuple[int, ...]) -> str:
    """The task of a network whose answer has this shape (with the batch): [B, classes] or [B, classes, H, W]."""
    if len(output_shape) == 2:
        return _CLASSIFICATION
    if len(output_shape) == 4:
        return _SEGMENTATION
    raise SpicError(f"a network that answers with a tensor of {tuple(output_shape)} is neither a classifier [B, classes] nor "
                    "a segmentation network [B, classes, H, W]")


def _nearest(name: str, names: list[str], home: str) -> str:
    near = difflib.get_close_matches(name, names, 5, 0.4) or names[:5]
    return "the nearest are: " + ", ".join(home + other for other in near)


# ---- torchvision -------------------------------------------------------------------------------------------------

def torchvision_names() -> list[str]:
    """Names (``torchvision:resnet18``) of all its classification and segmentation networks."""
    return [f"torchvision:{name}" for name in _torchvision_names()]


def _torchvision_names() -> list[str]:
    return [name for module in (models, models.segmentation) for name in models.list_models(module)]


def _torchvision(name: str) -> NetworkSpec:
    if name not in _torchvision_names():
        raise SpicError(f"unknown network 'torchvision:{name}'; {_nearest(name, _torchvision_names(), 'torchvision:')}")
    weights = models.get_model_weights(name).DEFAULT
    segments = name in models.list_models(models.segmentation)
    classes = tuple(weights.meta["categories"])
    return NetworkSpec(f"torchvision:{name}", _SEGMENTATION if segments else _CLASSIFICATION,
                       partial(_make_torchvision, name, segments), partial(_download_torchvision, name, weights),
                       _torchvision_input(weights.transforms()), len(classes), classes)


def _torchvision_input(preset) -> InputSpec:
    """Segmentation presets resize and do not crop; the size of the input being agreed, the middle square is taken."""
    resize = preset.resize_size[0]
    crop = getattr(preset, "crop_size", preset.resize_size)[0]
    return InputSpec(resize, crop, preset.interpolation.value, tuple(preset.mean), tuple(preset.std))


def _make_torchvision(name: str, segments: bool, num_classes: int | None, state: dict | None) -> nn.Module:
    options = {} if num_classes is None else {"num_classes": num_classes}
    if segments:
        options["weights_backbone"] = None
    if state is None:
        options |= _WITHOUT_WEIGHTS.get(name, {})
    else:
        options |= _WITHOUT_WEIGHTS.get(name, {}) | _WITH_WEIGHTS_OF_A_FILE.get(name, {})
        options |= {"aux_loss": True} if any(key.startswith("aux_classifier.") for key in state) else {}
    return models.get_model(name, weights=None, **options)


def _download_torchvision(name: str, weights) -> nn.Module:
    try:
        return models.get_model(name, weights=weights)
    except (OSError, URLError, RuntimeError) as error:
        raise SpicError(f"torchvision's weights {weights} could not be downloaded ({reason(error)}); get {weights.url} by "
                        "other means and pass that file as the weights") from None


# ---- timm --------------------------------------------------------------------------------------------------------

def _timm(name: str) -> NetworkSpec:
    try:
        import timm
    except ImportError:
        raise SpicError(f"timm:{name}: timm is not installed; pip install timm") from None
    names = timm.list_models() + timm.list_pretrained()
    if name not in names:
        raise SpicError(f"unknown network 'timm:{name}'; {_nearest(name, names, 'timm:')}")
    about = timm.get_pretrained_cfg(name).to_dict()
    return NetworkSpec(f"timm:{name}", _CLASSIFICATION, partial(_make_timm, timm, name), partial(_download_timm, timm, name),
                       _timm_input(about), about.get("num_classes") or 1000)


def _timm_input(about: dict) -> InputSpec:
    side = about["input_size"][-1]
    return InputSpec(math.floor(side / (about.get("crop_pct") or 1)), side, about.get("interpolation") or "bilinear",
                     tuple(about["mean"]), tuple(about["std"]))


def _make_timm(timm, name: str, num_classes: int | None, state: dict | None) -> nn.Module:
    return timm.create_model(name, **({} if num_classes is None else {"num_classes": num_classes}))


def _download_timm(timm, name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:
        raise SpicError(f"timm's weights of {name} could not be downloaded ({reason(error)}); get them by other means and "
                        "pass their file as the weights") from None


# ---- this project's, and a user's own ------------------------------------------------------------------------------

def _narrow(name: str) -> NetworkSpec:
    base, _, width = name.partition("/")
    if base not in _NARROW:
        raise SpicError(f"unknown network 'narrow:{name}'; there are: {', '.join(f'narrow:{n}/WIDTH' for n in _NARROW)}")
    make, task, classes = _NARROW[base]
    scale = _width(name, width)
    size = InputSpec() if task == _CLASSIFICATION else InputSpec(_SEGMENTATION_CROP, _SEGMENTATION_CROP)
    return NetworkSpec(f"narrow:{name}", task, lambda num_classes, state: make(scale, num_classes or classes),
                       partial(_no_default, f"narrow:{name}"), size, classes)


def _width(name: str, text: str) -> float:
    try:
        width = float(text or 1)
    except ValueError:
        width = math.nan
    if not 1 / 64 <= width <= 4:
        raise SpicError(f"narrow:{name}: the width has to be a number from 0.016 to 4, as in narrow:resnet50/0.25")
    return width


def _no_default(name: str) -> nn.Module:
    raise SpicError(f"{name} has no default weights; pass a file of weights, or random")


def _own(name: str, home: str, function: str) -> NetworkSpec:
    make = getattr(_module(home, name), function, None)
    if not callable(make):
        raise SpicError(f"{name}: {home} has no function {function!r} that makes a network")
    return NetworkSpec(name, None, partial(_make_own, name, make), partial(_make_own, name, make, None, None))


def _module(home: str, name: str):
    """A module by the path of its file, or by its name."""
    try:
        if home.endswith(".py"):
            return _from_file(Path(home))
        return importlib.import_module(home)
    except ModuleNotFoundError as error:
        if error.name != home.partition(".")[0]:
            raise SpicError(f"{name}: {reason(error)}") from None
        raise SpicError(f"unknown network {name!r}: {home!r} is no installed module and no FILE.py; or write torchvision:NAME, "
                        "timm:NAME, narrow:NAME/WIDTH") from None
    except SpicError:
        raise
    except Exception as error:
        raise SpicError(f"{name}: {home} cannot be run ({type(error).__name__}: {reason(error)})") from None


def _from_file(path: Path):
    if not path.is_file():
        raise SpicError(f"{path}: no such file; write FILE.py:FUNCTION, the function returning a torch.nn.Module")
    known = f"spic_user_{path.stem}_{abs(hash(path.resolve()))}"
    if known not in sys.modules:
        plan = importlib.util.spec_from_file_location(known, path)
        module = importlib.util.module_from_spec(plan)
        sys.modules[known] = module
        try:
            plan.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
    return sys.modules[known]


def _make_own(name: str, make: Callable, num_classes: int | None, state: dict | None) -> nn.Module:
    takes = inspect.signature(make).parameters if not isinstance(make, nn.Module) else {}
    if num_classes is not None and "num_classes" not in takes:
        raise SpicError(f"{name} takes no num_classes; let it give a network of {num_classes} classes by itself")
    try:
        return make if isinstance(make, nn.Module) else make(**({} if num_classes is None else {"num_classes": num_classes}))
    except Exception as error:
        raise SpicError(f"{name} failed: {type(error).__name__}: {reason(error)}") from None
