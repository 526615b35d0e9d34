"""Cut any network in two by its graph: ``back(front(x))`` equals ``network(x)`` bit for bit.

    front, back, frontier = cut(torchvision.models.resnet18(), "layer3.1", torch.zeros(1, 3, 224, 224))

Names are those of torchvision.models.feature_extraction: a node, or the path of a module, of which the last node counts.
The front is whatever the node needs, the back all the rest. What crosses is the frontier: tensors, and never a size.
A size that the back needs and no crossing tensor has is agreed: that of the example, or a multiple of the batch.
"""

from __future__ import annotations

import difflib
import operator
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from spic.errors import SpicError
from spic.networks.graph import (Spec, ancestors, count_macs, ends_of_modules, holds_tensors, is_size, link, output_of, parameters_of,
                                 passed_by_all, trace, weights_of)

_RESIZES = (F.interpolate, nn.Upsample, nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout)
_KEPT = ("name", "seen", "memory", "writes")


@dataclass(frozen=True)
class Crossing:
    """One tensor that crosses a cut: its name, its shape for one image (without the batch), its type."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Frontier:
    """What crosses a cut, in the order in which the front gives it; ``after`` is the cut as it was asked for."""

    after: str | tuple[str, ...]
    tensors: tuple[Crossing, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tensor.name for tensor in self.tensors)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tensor.shape for tensor in self.tensors)


@dataclass(frozen=True)
class Place:
    """A cut that a single tensor crosses, and what lies before it: parameters, and multiply-accumulates of one image."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    parameters: int
    macs: int


class Half(fx.GraphModule):
    """One side of a cut. ``image_size``: (H, W) of the pictures that both sides agree on."""

    @property
    def image_size(self) -> tuple[int, int]:
        return self.meta["image_size"]


# ---- cutting -----------------------------------------------------------------------------------------------------

def cut(network: nn.Module, after: str | tuple[str, ...], example: Tensor) -> tuple[Half, Half, Frontier]:
    """Front, back and frontier of ``network`` cut after a node, or after several nodes at once.

    front: image [B, 3, H, W] -> the tensor that crosses, or a tuple where several do; back takes just that and gives what
    the network gives (of a dict, ``out``). Both share the network's tensors, and each lives in exactly one of them; neither
    writes into what it is given. ``example``: image(s) of the agreed size, kept as ``back.image_size`` (H, W); only sizes are
    looked at. The network is put in evaluation mode. SpicError: see ``trace``, and unknown or empty cuts.
    """
    (front,), (back,), (frontier,) = cut_many(network, [after], example)
    return front, back, frontier


def cut_many(network: nn.Module, cuts: list[str | tuple[str, ...]], example: Tensor
             ) -> tuple[list[Half], list[Half], list[Frontier]]:
    """Cut at several places, from one trace, so that one pass over the network serves them all.

    All three lists are in the order of the network, whatever the order of ``cuts``: ``frontiers[i].after`` says which cut
    it is. ``stages[i]`` continues from frontier i - 1 to frontier i; ``backs[i]`` is the whole rest behind cut i.
    ``network``: a module, or what ``trace`` gave (folded or not).
    """
    traced = trace(network, example)
    fronts = sorted(((_front_of(traced, after), after) for after in cuts), key=lambda pair: len(pair[0]))
    _check_nested(fronts)
    given, done, stages, backs, frontiers = [_image(traced)], {_image(traced)}, [], [], []
    for front, after in fronts:
        crossing = _crossing(traced, front)
        _check_sharing(traced, front, after)
        stages.append(_Builder(traced, front - done, given, crossing).build("Front"))
        backs.append(_Builder(traced, set(traced.graph.nodes) - front, crossing, None).build("Back"))
        frontiers.append(Frontier(after, tuple(_describe(traced, node) for node in crossing)))
        given, done = crossing, front
    return stages, backs, frontiers


def single(frontier: Frontier) -> Crossing:
    """The one tensor that crosses; where several do, an error that names them."""
    if len(frontier.tensors) == 1:
        return frontier.tensors[0]
    tensors = ", ".join(f"{t.name} {'x'.join(map(str, t.shape))}" for t in frontier.tensors)
    raise SpicError(f"cut after {frontier.after!r}: {len(frontier.tensors)} tensors cross ({tensors}) and no bottleneck is "
                    "defined for them; `spic splits NETWORK` lists the places where one crosses")


def _image(traced: fx.GraphModule) -> fx.Node:
    return next(iter(traced.graph.nodes))


def find(traced: fx.GraphModule, name: str) -> fx.Node:
    """The node a name or module path stands for; an unknown one is an error that lists the nearest names."""
    ends = ends_of_modules(traced.graph)
    if name in ends:
        return ends[name]
    if any(dead == name or dead.startswith(f"{name}.") for dead in traced.meta["dead"]):
        raise SpicError(f"cut after {name!r}: it does not lead to the network's answer")
    near = difflib.get_close_matches(name, ends, 5, 0.5) or list(ends)[:5]
    raise SpicError(f"unknown cut {name!r}; the nearest names are: {', '.join(near)}")


def _front_of(traced: fx.GraphModule, after: str | tuple[str, ...]) -> set[fx.Node]:
    """All nodes in front of a cut; the elements of a tuple of tensors stay on the side of the tuple."""
    names = (after,) if isinstance(after, str) else after
    front = ancestors([_image(traced), *(find(traced, name) for name in names)])
    for node in traced.graph.nodes:
        if node.target is operator.getitem and node.args[0] in front and node.meta["content"]:
            if not isinstance(node.args[0].meta["seen"][0], Spec):
                front |= ancestors([node])
    rest = [node for node in traced.graph.nodes if node not in front and node.meta["content"] and node.op != "output"]
    if not rest:
        raise SpicError(f"cut after {after!r}: nothing lies behind it")
    if not any(node.meta["content"] and node.op != "placeholder" for node in front):
        raise SpicError(f"cut after {after!r}: nothing lies before it")
    return front


def _crossing(traced: fx.GraphModule, front: set[fx.Node]) -> list[fx.Node]:
    """The tensors of the front that something behind it works on; who only asks for their size does not count."""
    def needs(user: fx.Node) -> bool:
        return user not in front and (holds_tensors(user) or not is_size(user))
    return [node for node in traced.graph.nodes
            if node in front and node.meta["content"] and any(map(needs, node.users))]


def _check_nested(fronts: list[tuple[set[fx.Node], str]]) -> None:
    for (first, name), (second, other) in zip(fronts, fronts[1:]):
        if not first <= second:
            raise SpicError(f"{name!r} and {other!r} lie on parallel branches; no stage leads from one to the other")


def _check_sharing(traced: fx.GraphModule, front: set[fx.Node], after) -> None:
    """Each parameter and buffer in exactly one half."""
    sides = [{}, {}]
    for node in traced.graph.nodes:
        sides[node in front] |= weights_of(traced, node)
    shared = sorted({name.rsplit(".", 1)[0] for key, (name, _) in sides[True].items() if key in sides[False]})
    if shared:
        raise SpicError(f"cut after {after!r}: {', '.join(shared[:3])} would be used on both sides of it; cut elsewhere")


def _describe(traced: fx.GraphModule, node: fx.Node) -> Crossing:
    ends = ends_of_modules(traced.graph)
    name = min((name for name, end in ends.items() if end is node), key=lambda name: name.count("."))
    two, three = (value.shape for value in node.meta["seen"])
    shape = two[1:] if (two[0], three[0]) == (2, 3) else tuple(2 * a - b for a, b in zip(two, three))
    return Crossing(name, shape, node.meta["seen"][0].dtype)


class _Builder:
    """Builds the module of the nodes ``own``, fed with the tensors ``given``, that gives ``returned`` (None: the answer)."""

    def __init__(self, traced: fx.GraphModule, own: set[fx.Node], given: list[fx.Node], returned: list[fx.Node] | None):
        self.traced, self.given, self.returned = traced, given, returned
        self.own = [node for node in traced.graph.nodes if node in own and node.op not in ("placeholder", "output")]
        self.graph = fx.Graph()
        self.new: dict[fx.Node, object] = {}
        self.safe: dict[fx.Node, fx.Node] = {}

    def build(self, name: str) -> Half:
        self._receive()
        late = self._late_writers()
        for node in self.own:
            for tensor in late.get(node, ()):
                self.safe[tensor] = self._clone(tensor)
            self._emit(node)
        answer = [output_of(self.traced.graph)] if self.returned is None else self.returned
        values = [self.safe.get(node) or self._emit(node) for node in answer]
        self.graph.output(values[0] if len(values) == 1 else tuple(values)).meta["seen"] = [None, None]
        link(self.graph)
        half = Half(self.traced, self.graph, name).eval()
        half.meta |= {"image_size": self.traced.meta["image_size"], "dead": []}
        return half

    def _receive(self) -> None:
        """One tensor is the argument itself, several are a tuple of them. What will be written into is copied first."""
        if len(self.given) == 1:
            self._note(self.given[0], self.graph.placeholder(self.given[0].name))
        else:
            pair = self.graph.placeholder("features")
            pair.meta |= {"seen": [tuple(n.meta["seen"][i] for n in self.given) for i in (0, 1)], "memory": set()}
            for i, node in enumerate(self.given):
                self._note(node, self.graph.call_function(operator.getitem, (pair, i)))
        written = set().union(*(node.meta["writes"] for node in self.own))
        touched = [node for node in self.given if node.meta["memory"] & written]
        for a, b in combinations(self.given, 2):
            if a.meta["memory"] & b.meta["memory"] & written:
                raise SpicError(f"cut between {a.meta['name']} and {b.meta['name']}: they share memory that is written to "
                                "behind the cut; cut elsewhere")
        for node in touched:
            self.new[node] = self._clone(node)

    def _late_writers(self) -> dict[fx.Node, list[fx.Node]]:
        """Node -> tensors to be given away that it overwrites after somebody behind the cut was to have read them."""
        order = {node: i for i, node in enumerate(self.traced.graph.nodes)}
        late: dict[fx.Node, list[fx.Node]] = {}
        for tensor in self.returned or ():
            needed = min((order[user] for user in tensor.users if user not in self.own and user not in self.new),
                         default=len(order))
            writers = [node for node in self.own if order[node] > max(order[tensor], needed)
                       and node.meta["writes"] & tensor.meta["memory"]]
            for first in writers[:1]:
                late.setdefault(first, []).append(tensor)
        return late

    def _clone(self, node: fx.Node) -> fx.Node:
        copy = self.graph.call_function(torch.clone, (self.new[node],))
        copy.meta = {**self.new[node].meta, "memory": set()}
        return copy

    def _note(self, old: fx.Node, new: fx.Node) -> fx.Node:
        new.meta = {key: old.meta[key] for key in _KEPT if key in old.meta}
        self.new[old] = new
        return new

    def _emit(self, node: fx.Node):
        """The node in this half; what depends on sizes alone is made again here, or agreed where the tensor is far away."""
        if node not in self.new:
            foreign = any(source.meta["content"] and source not in self.new for source in node.all_input_nodes)
            if foreign and not holds_tensors(node):
                self.new[node] = self._agreed(node, *node.meta["seen"])
            else:
                sources = {source: self._emit(source) for source in node.all_input_nodes}
                self._note(node, self.graph.node_copy(node, sources.__getitem__))
        return self.new[node]

    def _agreed(self, node: fx.Node, two, three):
        """A value seen at batches of two and three images, as a constant or as a multiple of the batch."""
        if node.meta["valued"]:
            raise SpicError(f"{node.meta['name']} is a number computed from the picture; it cannot cross a cut")
        if isinstance(two, torch.device):
            return self._ask(getattr, self._emit(self.given[0]), "device", seen=(two, three))
        if isinstance(two, (tuple, list)) and len(two) == len(three):
            return tuple(self._agreed(node, *pair) for pair in zip(two, three))
        if two == three:
            return two
        if isinstance(two, int) and two * 3 == three * 2:
            factor = two // 2
            batch = self._batch()
            return batch if factor == 1 else self._ask(operator.mul, batch, factor, seen=(two, three))
        raise SpicError(f"{node.meta['name']} ({two} for two images, {three} for three) would have to cross the cut, "
                        "and is neither agreed nor a multiple of the batch")

    def _batch(self) -> fx.Node:
        """How many images the tensors that this half was given belong to."""
        for node in self.given:
            for axis, (two, three) in enumerate(zip(*(value.shape for value in node.meta["seen"]))):
                if two * 3 == three * 2 and two:
                    size = self._ask(torch.Tensor.size, self.new[node], axis, seen=(two, three))
                    return size if two == 2 else self._ask(operator.floordiv, size, two // 2, seen=(2, 3))
        raise SpicError("the tensors that cross do not tell how many images they belong to")

    def _ask(self, function, *args, seen) -> fx.Node:
        node = self.graph.call_function(function, args)
        node.meta |= {"seen": list(seen), "memory": set(), "writes": set()}
        return node


# ---- what a cut, or a back, can be used for -----------------------------------------------------------------------

def single_tensor_cuts(network: nn.Module, example: Tensor) -> list[Place]:
    """Every place where exactly one tensor crosses and parameters lie on both sides, in the order of the network.

    Places that hold the same numbers (a flatten, a dropout) are one, under the shortest of their names. ``network``:
    a module, or what ``trace`` gave.
    """
    return _places(trace(network, example))


def _places(traced: fx.GraphModule) -> list[Place]:
    total = len(parameters_of(traced, traced.graph.nodes))
    count_macs(traced)
    places: dict[str, Place] = {}
    before, parameters, last = set(), {}, None
    for node in passed_by_all(traced.graph):
        front = ancestors([node])
        parameters |= parameters_of(traced, front - before)
        before = front
        fresh = last is None or not _same_numbers(last, node)
        if fresh and 0 < len(parameters) < total and _is_batch_of_tensors(node) and not _shares(traced, front):
            macs = sum(n.meta["macs"] for n in front)
            about = _describe(traced, node)
            places[about.name] = Place(about.name, about.shape, about.dtype, sum(p.numel() for p in parameters.values()), macs)
        last = node
    return list(places.values())


def _same_numbers(first: fx.Node, second: fx.Node) -> bool:
    """Whether the second is a mere view of the first."""
    return bool(first.meta["memory"] & second.meta["memory"]) and not second.meta["writes"] \
        and first in second.all_input_nodes and _size(first) == _size(second)


def _size(node: fx.Node) -> int | None:
    seen = node.meta["seen"][0]
    return torch.Size(seen.shape).numel() if isinstance(seen, Spec) else None


def _is_batch_of_tensors(node: fx.Node) -> bool:
    two, three = node.meta["seen"]
    return isinstance(two, Spec) and (two.shape[:1], three.shape[:1]) == ((2,), (3,))


def _shares(traced: fx.GraphModule, front: set[fx.Node]) -> bool:
    try:
        _check_sharing(traced, front, "")
    except SpicError:
        return True
    return False


def answers(back: Half, layer: str | None = None) -> Half:
    """A module (same parameters) feature -> (logits, hidden), for training against the uncompressed network's answers.

    hidden: what ``layer`` gives, a node or module behind the cut; where none is named, what the last layer with parameters
    takes that every path goes through, None where there is none. logits: what
    that layer gives where only resizing follows (DeepLabV3: before the resizing to the picture, so a window of the feature
    is served too), else the network's answer.
    """
    chain = [node for node in passed_by_all(back.graph) if parameters_of(back, [node])]
    last = chain[-1] if chain else None
    sources = [source for source in last.all_input_nodes if source.meta["content"]] if last else []
    hidden = find(back, layer) if layer else sources[0] if len(sources) == 1 else None
    logits = last if last and _only_resized(back, last) else output_of(back.graph)
    return _giving(back, logits, hidden)


def _only_resized(back: Half, layer: fx.Node) -> bool:
    before = ancestors([layer])
    rest = [node for node in back.graph.nodes if node not in before and node.meta["content"] and node.op != "output"]
    kinds = [type(back.get_submodule(n.target)) if n.op == "call_module" else n.target for n in rest]
    return all(kind in _RESIZES for kind in kinds)


def _giving(back: Half, logits: fx.Node, hidden: fx.Node | None) -> Half:
    graph, copies = fx.Graph(), {}
    needed = ancestors([node for node in (logits, hidden) if node])
    for node in back.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output((copies[logits], copies[hidden] if hidden else None)).meta["seen"] = [None, None]
    link(graph)
    module = Half(back, graph, "Answers").eval()
    module.meta["image_size"] = back.image_size
    return module
