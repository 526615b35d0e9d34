"""A network as a graph: traced by torch.fx, its nodes named as torchvision names them, and what each node gives.

Tracing follows torchvision.models.feature_extraction. Two things are done otherwise, and both only add names:
building blocks of torchvision.ops (Conv2dNormActivation, SqueezeExcitation, MLP) are traced through, and a module keeps
its path as its name even where that ends in a number (torchvision takes ``conv_2`` for the second call of ``conv``).
"""

from __future__ import annotations

import copy
import inspect
import math
import operator
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

import torch
import torchvision
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import NodePathTracer
from torchvision.ops.misc import MLP, ConvNormActivation, SqueezeExcitation

from spic.errors import SpicError, reason

_OPENED = (ConvNormActivation, SqueezeExcitation, MLP)
_MOST_LEAF_TYPES = 20
_BATCHES = (2, 3)  # two, so that what grows with the batch can be told from what does not
_SIZE_OF_A_TENSOR = {"shape", "size", "dim", "ndim", "numel", "dtype", "device", "stride", "is_cuda"}
ANSWER = "out"  # what torchvision's segmentation networks call their logits among the tensors of a dict


@dataclass(frozen=True)
class Spec:
    """What is known of a tensor without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Tracer(NodePathTracer):
    """torchvision's tracer; modules of ``leaf_types`` become one node, and ``failed`` names where tracing stopped."""

    def __init__(self, leaf_types: tuple[type, ...] = ()):
        operations = [kind for _, kind in inspect.getmembers(torchvision.ops, inspect.isclass)
                      if issubclass(kind, nn.Module) and not issubclass(kind, _OPENED)]
        super().__init__(autowrap_modules=(math, torchvision.ops), leaf_modules=[*operations, *leaf_types])
        self.failed: nn.Module | None = None

    def call_module(self, m: nn.Module, forward, args, kwargs):
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or m
            raise

    def _get_node_qualname(self, module_qualname: str, node: fx.Node) -> str:
        if node.op != "call_module":
            return super()._get_node_qualname(module_qualname, node)
        taken = set(self.node_to_qualname.values())
        names = (f"{module_qualname}_{count}" if count else module_qualname for count in range(len(taken) + 1))
        return next(name for name in names if name not in taken)


# ---- tracing -----------------------------------------------------------------------------------------------------

def record(network: nn.Module) -> fx.GraphModule:
    """The graph of ``network`` in evaluation mode, sharing its parameters; ``node.meta["name"]`` is a node's name.

    A module inside that torch.fx cannot follow becomes one node. Where the network's own forward cannot be followed,
    a SpicError says where.
    """
    network.eval()
    leaf_types: list[type] = []
    while True:
        tracer = Tracer(tuple(leaf_types))
        try:
            graph = tracer.trace(network, _defaults(network))
        except Exception as error:
            if tracer.failed is None or type(tracer.failed) in leaf_types or len(leaf_types) == _MOST_LEAF_TYPES:
                raise SpicError(_untraceable(network, error)) from None
            leaf_types.append(type(tracer.failed))
            continue
        for node, name in tracer.node_to_qualname.items():
            node.meta["name"] = name
        return fx.GraphModule(tracer.root, graph, type(network).__name__).eval()


def _defaults(network: nn.Module) -> dict:
    """Arguments of forward beyond the image, at their default values."""
    parameters = list(inspect.signature(network.forward).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _untraceable(network: nn.Module, error: Exception) -> str:
    """One line: why, and the line of the network's own code where tracing stopped."""
    folder = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__)
              if not f.filename.startswith((folder, "<")) and f.filename != __file__]
    where = f" at {Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name}" if frames else ""
    return (f"{type(network).__name__} cannot be traced: {reason(error)}{where}; mark that function with torch.fx.wrap, or "
            "move the part that depends on values into a module of its own, which then becomes one node")


# ---- what each node gives ----------------------------------------------------------------------------------------

class _Observer(fx.Interpreter):
    """Runs a graph node by node and notes what each gives, shares memory with and writes into."""

    def __init__(self, traced: fx.GraphModule, batch: int):
        super().__init__(traced, garbage_collect_values=False)
        self.extra_traceback = False
        self.batch = batch

    def run_node(self, node: fx.Node):
        inputs = [t for i in node.all_input_nodes for t in tensors(self.env[i])]
        versions = list(map(_version, inputs))
        value = super().run_node(node)
        meta = node.meta
        meta.setdefault("seen", []).append(outline(value))
        meta.setdefault("memory", set()).update(map(self._memory, tensors(value)))
        written = [tensor for tensor, version in zip(inputs, versions) if _version(tensor) != version]
        meta.setdefault("writes", set()).update(map(self._memory, written))
        meta.setdefault("same", set()).update(i for i in node.all_input_nodes if self.env[i] is value and written)
        return value

    def _memory(self, tensor: Tensor) -> tuple[int, int]:
        return self.batch, tensor.untyped_storage()._cdata


def _version(tensor: Tensor) -> int:
    """How often the tensor was written to; parameters made in inference mode do not count, and are not written to."""
    return 0 if tensor.is_inference() else tensor._version


def tensors(value) -> list[Tensor]:
    """All tensors in a value, also inside of tuples, lists and dicts."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def outline(value):
    """The value with a Spec in the place of each tensor."""
    return torch.utils._pytree.tree_map_only(Tensor, lambda t: Spec(tuple(t.shape), t.dtype), value)


@torch.no_grad()
def observe(traced: fx.GraphModule, example: Tensor) -> None:
    """Fill each node's meta: ``seen`` at two batch sizes, ``memory`` and ``writes`` (ids of storages).

    Nothing is computed where torch can propagate shapes alone; else the network really runs, on two and three images.
    The second run is in channels_last, since a view in one format may be a copy in the other.
    """
    try:
        _on_shapes_alone(traced, partial(_run_twice, example=example[:1].to("meta")))
    except Exception:
        try:
            _run_twice(traced, example[:1])
        except Exception as error:
            raise SpicError(f"the network does not take pictures of {tuple(example.shape[1:])}: {reason(error)}") from None


def _run_twice(traced: fx.GraphModule, example: Tensor) -> None:
    for batch, memory_format in zip(_BATCHES, (torch.contiguous_format, torch.channels_last)):
        images = example.expand(batch, *example.shape[1:])
        _Observer(traced, batch).run(images.contiguous(memory_format=memory_format if images.ndim == 4 else torch.contiguous_format))


def _on_shapes_alone(traced: fx.GraphModule, run: Callable[[fx.GraphModule], None]) -> None:
    """``run`` on a copy whose tensors have shapes and no values; what it notes at the nodes is brought home."""
    values = [*traced.parameters(), *traced.buffers()]
    empty = {id(value): nn.Parameter(value.detach().to("meta"), False) if isinstance(value, nn.Parameter) else value.to("meta")
             for value in values}
    shadow = copy.deepcopy(traced, empty)
    home = dict(zip(shadow.graph.nodes, traced.graph.nodes))
    run(shadow)
    for node, original in home.items():
        original.meta |= node.meta | {"same": {home.get(source, source) for source in node.meta.get("same", ())}}


class _Counter(fx.Interpreter):
    """Runs a graph node by node and notes the multiply-accumulates of each."""

    def __init__(self, traced: fx.GraphModule, counter: FlopCounterMode):
        super().__init__(traced)
        self.extra_traceback = False
        self.counter = counter

    def run_node(self, node: fx.Node):
        before = self.counter.get_total_flops()
        value = super().run_node(node)
        node.meta["macs"] = (self.counter.get_total_flops() - before) // 2 // _BATCHES[0]
        return value


@torch.inference_mode(False)
@torch.no_grad()
def count_macs(traced: fx.GraphModule) -> None:
    """Fill ``macs`` of each node of a traced network: multiply-accumulates of one image (torch counts two operations each)."""
    image = next(iter(traced.graph.nodes)).meta["seen"][0]
    try:
        _on_shapes_alone(traced, partial(_count, images=torch.empty(image.shape, dtype=image.dtype, device="meta")))
    except Exception:
        _count(traced, torch.zeros(image.shape, dtype=image.dtype))


def _count(traced: fx.GraphModule, images: Tensor) -> None:
    with FlopCounterMode(display=False) as counter:
        _Counter(traced, counter).run(images)


# ---- one image in, one tensor out, nothing written behind one's back ---------------------------------------------

@torch.inference_mode(False)
def trace(network: nn.Module, example: Tensor) -> fx.GraphModule:
    """The graph of ``network`` (or the graph itself, traced before), ready to be cut.

    ``example``: one image [1, 3, H, W] or a batch of them, of the size that both halves agree on. The network is put in
    evaluation mode and keeps its own modules. Its one input is the image, its one output a tensor (of a dict, the tensor
    ``out``); what does not lead there is dropped. SpicError: cannot be traced, takes or returns something else.
    """
    if isinstance(network, fx.GraphModule) and "image_size" in network.meta:
        _check_size(network, example)
        return network
    traced = record(network)
    _check_inputs(network)
    _answer_with_one_tensor(traced, network)
    observe(traced, example)
    _check_answer(traced, network)
    _use_what_was_written(traced.graph)
    _open_containers(traced.graph)
    link(traced.graph)
    _drop_dead_nodes(traced)
    traced.meta["image_size"] = tuple(example.shape[-2:])
    traced.recompile()
    return traced


def _check_size(traced: fx.GraphModule, example: Tensor) -> None:
    agreed = next(iter(traced.graph.nodes)).meta["seen"][0]
    if isinstance(agreed, Spec) and agreed.shape[1:] != tuple(example.shape[1:]):
        raise SpicError(f"the network was traced for pictures of {agreed.shape[1:]}, not {tuple(example.shape[1:])}")


def output_of(graph: fx.Graph) -> fx.Node:
    """The node of the graph that is its answer."""
    return graph.output_node().args[0]


def _check_inputs(network: nn.Module) -> None:
    """One input must be given, the image; further ones may be left at their defaults."""
    needed = [p.name for p in inspect.signature(network.forward).parameters.values()
              if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) != 1:
        raise SpicError(f"{type(network).__name__} takes {len(needed)} inputs ({', '.join(needed)}); a network that is cut "
                        "takes one, the image")


def _answer_with_one_tensor(traced: fx.GraphModule, network: nn.Module) -> None:
    end = traced.graph.output_node()
    answer = end.args[0]
    if isinstance(answer, dict) and isinstance(answer.get(ANSWER), fx.Node):
        end.args = (answer[ANSWER],)
    elif not isinstance(answer, fx.Node):
        _refuse_answer(network, answer)


def _check_answer(traced: fx.GraphModule, network: nn.Module) -> None:
    seen = output_of(traced.graph).meta["seen"][0]
    if not isinstance(seen, Spec):
        _refuse_answer(network, seen)


def _refuse_answer(network: nn.Module, answer) -> None:
    what = f"a {type(answer).__name__.removeprefix('immutable_')}"
    if isinstance(answer, dict):
        what += f" of {', '.join(map(repr, answer))}"
    elif isinstance(answer, (list, tuple)):
        what += f" of {len(answer)}"
    raise SpicError(f"{type(network).__name__} returns {what}; it has to return one tensor, or a dict with the logits as "
                    f"{ANSWER!r}: wrap it in a module that does")


def _use_what_was_written(graph: fx.Graph) -> None:
    """After ``relu_(x)`` a later use of x means the result: say so in the graph, so that data flow alone tells the order."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        for source in node.meta.get("same", ()):
            source.replace_all_uses_with(node, lambda user, node=node: order[user] > order[node])


def _open_containers(graph: fx.Graph) -> None:
    """Who takes a whole tuple of tensors (``cat(x.chunk(2))``) takes its elements, each a node of its own."""
    for node in list(graph.nodes):
        values = node.meta.get("seen", [None])
        takers = [user for user in node.users if user.target is not operator.getitem and user.op != "output"]
        if takers and isinstance(values[0], (tuple, list)) and all(isinstance(v, Spec) for v in values[0]):
            parts = _elements(graph, node)
            for user in takers:
                swap = lambda n, node=node, parts=parts: parts if n is node else n  # noqa: E731
                user.args, user.kwargs = fx.map_arg(user.args, swap), fx.map_arg(user.kwargs, swap)


def _elements(graph: fx.Graph, node: fx.Node) -> list[fx.Node]:
    with graph.inserting_after(node):
        parts = [graph.call_function(operator.getitem, (node, i)) for i in reversed(range(len(node.meta["seen"][0])))][::-1]
    for i, part in enumerate(parts):
        part.meta = {"name": f"{node.meta['name']}.{i}", "seen": [value[i] for value in node.meta["seen"]],
                     "memory": set(node.meta["memory"]), "writes": set(), "same": set()}
    return parts


def link(graph: fx.Graph) -> None:
    """Note for each node ``after``: the nodes that must have run before: its inputs, and who wrote into their memory;
    ``content``: whether what the picture shows is in it; ``valued``: whether it is a number taken from that.
    """
    writers: list[fx.Node] = []
    for node in graph.nodes:
        inputs = list(node.all_input_nodes)
        memory = set().union(*(i.meta["memory"] for i in inputs if i.meta.get("memory")))
        node.meta["after"] = dict.fromkeys([*inputs, *(w for w in writers if w.meta["writes"] & memory)])
        if node.meta.get("writes"):
            writers.append(node)
        node.meta["content"] = _has_content(node)
        node.meta["valued"] = not holds_tensors(node) and (not is_size(node) or any(i.meta["valued"] for i in inputs))


def _has_content(node: fx.Node) -> bool:
    """Whether it holds tensors that depend on what the picture shows, not on its size alone."""
    if node.op == "placeholder":
        return True
    return holds_tensors(node) and any(n.meta["content"] for n in node.meta["after"])


def holds_tensors(node: fx.Node) -> bool:
    """Whether the node gives a tensor, or a container of some."""
    return any(isinstance(leaf, Spec) for leaf in torch.utils._pytree.tree_leaves(node.meta["seen"][0]))


def is_size(node: fx.Node) -> bool:
    """Whether a node that gives no tensor asks for sizes only (``x.shape``), not for values (``x.item()``)."""
    asked = node.args[1] if node.target is getattr else getattr(node.target, "__name__", node.target)
    return not any(holds_tensors(i) for i in node.all_input_nodes) or asked in _SIZE_OF_A_TENSOR


def ancestors(nodes) -> set[fx.Node]:
    """The nodes and everything that must have run before them."""
    found, waiting = set(), list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.meta["after"])
    return found


def _drop_dead_nodes(traced: fx.GraphModule) -> None:
    """Auxiliary heads, assertions, arguments at their defaults; their names are kept for a clear refusal."""
    graph = traced.graph
    alive = ancestors([graph.output_node()])
    image = next(iter(graph.nodes))
    dead = [node for node in graph.nodes if node not in alive and node is not image]
    traced.meta["dead"] = [node.meta["name"] for node in dead if "name" in node.meta]
    for node in reversed(dead):
        graph.erase_node(node)


# ---- names, weights, and the nodes that every path goes through ---------------------------------------------------

def ends_of_modules(graph: fx.Graph) -> dict[str, fx.Node]:
    """Name or module path -> the node it stands for; of a module, the last node that gives a tensor."""
    ends: dict[str, fx.Node] = {}
    named = [node for node in graph.nodes if "name" in node.meta and node.meta["content"]]
    for node in named:
        parts = node.meta["name"].split(".")
        ends |= {".".join(parts[:i]): node for i in range(1, len(parts))}
    return ends | {node.meta["name"]: node for node in named}


def weights_of(traced: fx.GraphModule, node: fx.Node) -> dict[int, tuple[str, Tensor]]:
    """id -> (name, tensor) of the parameters and buffers that a node uses itself, or through what no picture changes."""
    if node.op == "call_module":
        own = {**dict(traced.get_submodule(node.target).named_parameters(node.target)),
               **dict(traced.get_submodule(node.target).named_buffers(node.target))}
    elif node.op == "get_attr" and not node.target.rsplit(".", 1)[-1].startswith("_tensor_constant"):
        own = {node.target: operator.attrgetter(node.target)(traced)}
    else:
        own = {}
    found = {id(tensor): (name, tensor) for name, tensor in own.items() if isinstance(tensor, Tensor)}
    for source in node.all_input_nodes:
        found |= {} if source.meta["content"] else weights_of(traced, source)
    return found


def parameters_of(traced: fx.GraphModule, nodes) -> dict[int, Tensor]:
    """id -> parameter, of all nodes together."""
    return {key: tensor for node in nodes for key, (_, tensor) in weights_of(traced, node).items()
            if isinstance(tensor, nn.Parameter)}


def passed_by_all(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that every path from the image to the answer goes through, in order (its dominators)."""
    above: dict[fx.Node, fx.Node | None] = {}
    depth: dict[fx.Node | None, int] = {None: 0}

    def meet(a, b):
        while a is not b:
            a, b = (above[a], b) if depth[a] > depth[b] else (a, above[b])
        return a

    for node in graph.nodes:
        if node.meta["content"] and node.op != "output":
            sources = [source for source in node.meta["after"] if source.meta["content"]]
            above[node] = reduce(meet, sources) if sources else None
            depth[node] = depth[above[node]] + 1
    chain = [output_of(graph)]
    while above[chain[-1]] is not None:
        chain.append(above[chain[-1]])
    return chain[::-1]
