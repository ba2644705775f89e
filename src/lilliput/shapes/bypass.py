"""Blocks that are dropped, or replaced by something small, as one proved transaction."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lilliput.errors import ShapeError
from lilliput.evaluation import evaluating
from lilliput.model.calls import Arguments, arguments
from lilliput.model.exporting import run_once
from lilliput.model.graph import run_graph
from lilliput.shapes.blocks import Block
from lilliput.shapes.graphmodel import GraphModel, graph_model
from lilliput.shapes.proof import Reference
from lilliput.shapes.proving import Build, first_proved, with_modules
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.standins import StandIn
from lilliput.shapes.widths import Shape

Map = Callable[[Tensor], Tensor]


class Bypassed(nn.Module):
    """The graph of a model in which blocks give what maps make of what they are given.

    Args:
        model: The original, which stays as it is.
        program: Its capture.
        maps: Blocks, none a part of another, with their maps.
    """

    def __init__(
        self, model: nn.Module, program: ExportedProgram, maps: Mapping[Block, Map]
    ) -> None:
        super().__init__()
        self.model = model
        self._program = program
        self._maps = {block.exit: (block.entry, change) for block, change in maps.items()}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's outputs."""
        return self._run((args, kwargs), {entry for entry, _ in self._maps.values()})[0]

    def values(self, inputs: Any, names: Iterable[str]) -> dict[str, Tensor]:
        """What flows at some nodes on one batch, as those see it that read it."""
        entries = {entry for entry, _ in self._maps.values()}
        with evaluating(self.model):
            return self._run(arguments(inputs), entries | set(names))[1]

    def _run(self, call: Arguments, wanted: set[str]) -> tuple[Any, dict[str, Tensor]]:
        seen: dict[str, Tensor] = {}
        first = self._first_readers(wanted)

        def visit(node: fx.Node, values: tuple[Any, ...], value: Any) -> Any:
            for entry in first.get(node.name, ()):
                seen[entry] = values[[str(one) for one in node.args].index(entry)].clone()
            if node.name in self._maps:
                entry, change = self._maps[node.name]
                value = change(seen[entry])
            if node.name in wanted:
                seen[node.name] = value.clone()
            return value

        at = frozenset({*self._maps, *wanted, *first})
        return run_graph(self._program, self.model, call, visit=visit, at=at), seen

    def _first_readers(self, wanted: set[str]) -> dict[str, list[str]]:
        """For inputs of the graph, which no visit sees: first reader -> their names."""
        found: dict[str, list[str]] = {}
        for node in self._program.graph.nodes:
            if node.op == "placeholder" and node.name in wanted:
                reader = next(one for one in self._program.graph.nodes if one in node.users)
                found.setdefault(reader.name, []).append(node.name)
        return found


def bypass(
    model: nn.Module, shape: Shape, *, maps: Mapping[Block, nn.Module], inputs: Any
) -> Reshaped:
    """Replaces blocks by maps of what they are given. The model is left as it was.

    The result is proved: it answers as the original's graph in which the output of each block is
    the map of its input, up to rounding, at several sizes of the inputs.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        maps: Block -> what takes its place; `nn.Identity` to drop it.
        inputs: One example batch.

    Returns:
        The user's own class with other modules in the place of the blocks where each block is a
        module and that answers as it should, else the captured graph.

    Raises:
        ShapeError: A block is a part of another one, or no copy answers as it should.
    """
    _check_apart(list(maps))
    program = shape.captured.graph
    reference = Reference(Bypassed(model, program, maps), Kept(shape, {}), inputs)
    own = _stand_ins(model, program, maps, inputs)
    builds: list[Build] = [("graph", lambda: _graph(shape, maps).train(model.training))]
    if own is not None:
        builds.insert(0, ("class", lambda: with_modules(model, own)))
    names = ", ".join(block.name for block in maps)
    return first_proved(builds, reference, what=f"bypassing {names}")


def _check_apart(blocks: list[Block]) -> None:
    for block in blocks:
        for other in blocks:
            if block is not other and block.inside & other.inside:
                raise ShapeError(f"{block.name} and {other.name} are parts of each other: name one")


def _stand_ins(
    model: nn.Module, program: ExportedProgram, maps: Mapping[Block, nn.Module], inputs: Any
) -> dict[str, nn.Module] | None:
    """Modules to be called as the blocks; None where a block is no module or called otherwise."""
    if not all(block.module for block in maps):
        return None
    around = {block.name: _Around() for block in maps}
    handles = [
        model.get_submodule(name).register_forward_hook(one, with_kwargs=True)
        for name, one in around.items()
    ]
    try:
        with evaluating(model):
            run_once(model, arguments(inputs))
    finally:
        for handle in handles:
            handle.remove()
    ends = {name for block in maps for name in (block.entry, block.exit)}
    values = Bypassed(model, program, {}).values(inputs, ends)
    made: dict[str, nn.Module] = {}
    for block, instead in maps.items():
        seen = around[block.name]
        stand_in = seen.stand_in(instead, values[block.entry], values[block.exit])
        if stand_in is None:
            return None
        made[block.name] = stand_in
    return made


class _Around:
    """Sees how a module is called and how it returns."""

    def __init__(self) -> None:
        self.given: list[tuple[int | str, Tensor]] = []
        self.result: Any = None

    def __call__(self, _: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        named = [*enumerate(args), *kwargs.items()]
        self.given = [(key, one.clone()) for key, one in named if isinstance(one, Tensor)]
        self.result = result

    def stand_in(self, instead: nn.Module, entry: Tensor, left: Tensor) -> StandIn | None:
        """A module called in the same way; None where the stream is not among its arguments."""
        keys = [key for key, one in self.given if _same(one, entry)]
        if not keys:
            return None
        if isinstance(self.result, Tensor):
            return StandIn(instead, keys[0])
        if type(self.result) not in (tuple, list):
            return None
        places = [n for n, one in enumerate(self.result) if _same(one, left)]
        if not places:
            return None
        return StandIn(instead, keys[0], place=places[0], count=len(self.result))


def _same(one: Any, other: Tensor) -> bool:
    if not isinstance(one, Tensor) or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


def _graph(shape: Shape, maps: Mapping[Block, nn.Module]) -> GraphModel:
    """The captured graph without the blocks and their weights."""
    model = graph_model(shape.captured.graph, Kept(shape, {}))
    nodes = {node.name: node for node in model.graph.nodes}
    passed: dict[fx.Node, fx.Node] = {}
    for block, instead in maps.items():
        entry, left = nodes[block.entry], nodes[block.exit]
        entry = passed.get(entry, entry)
        if not isinstance(instead, nn.Identity):
            name = f"{block.name.replace('#', '_')}_map"
            model.add_submodule(name, copy.deepcopy(instead))
            with model.graph.inserting_before(_after(entry)):
                entry = model.graph.call_module(name, (entry,))
        left.replace_all_uses_with(entry)
        passed[left] = entry
    _clean(model, {name for block in maps for name in block.inside})
    model.recompile()
    return model


def _after(node: fx.Node) -> fx.Node:
    """Where what reads a value can be inserted first."""
    node = node.next
    while node.op in ("placeholder", "get_attr"):
        node = node.next
    return node


def _clean(model: GraphModel, gone: set[str]) -> None:
    """Erases operators that nothing reads any more, and their weights."""
    weights: set[str] = set()
    for node in reversed(list(model.graph.nodes)):
        after = node.name in gone or any(one.name in gone for one in node.all_input_nodes)
        if node.users or node.op == "output":
            continue
        if node.op == "get_attr":
            weights.add(str(node.target))
            model.graph.erase_node(node)
        elif node.op == "call_function" and after:
            model.graph.erase_node(node)
    for name in weights - {str(node.target) for node in model.graph.nodes}:
        owner, _, leaf = name.rpartition(".")
        delattr(model.get_submodule(owner), leaf)
