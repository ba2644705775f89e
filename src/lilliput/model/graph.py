"""Runs a captured graph node by node, so that what flows through it can be seen."""

import operator
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from lilliput.errors import InternalError, TaskError
from lilliput.model.calls import Arguments


class Weights(Protocol):
    """What a graph takes its parameters and buffers from, e.g. a module."""

    def named_parameters(self, *, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        """Parameters by their qualified names."""
        ...

    def named_buffers(self, *, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        """Buffers by their qualified names."""
        ...


Visit = Callable[[fx.Node, tuple[Any, ...], Any], Any]


def run_graph(
    program: ExportedProgram,
    model: Weights,
    inputs: Arguments,
    *,
    visit: Visit,
    at: frozenset[str],
) -> Any:
    """Runs the graph on one call's arguments and lets `visit` see, or change, some values.

    Values are dropped as soon as nothing needs them. Buffers and inputs are copied first, so a
    model that writes to them is not changed.

    Args:
        program: A non-decomposed export of `model`.
        model: Where parameters and buffers are taken from.
        inputs: Positional and keyword arguments of the call.
        visit: Called as ``visit(node, arguments, value)`` after a node ran; its result replaces
            the value.
        at: Names of the nodes to visit.

    Returns:
        The model's outputs in their own structure.

    Raises:
        TaskError: The inputs have another structure than the captured ones.
    """
    walk = Walk(program, model, inputs, visit=visit, at=at)
    for node in program.graph.nodes:
        walk.step(node)
    return walk.outputs


class Walk:
    """One call on its way through a graph; arguments as those of `run_graph`.

    Attributes:
        values: What is still needed of the nodes that ran: the value of each.
        outputs: The model's outputs in their own structure, once the last node ran.
    """

    def __init__(
        self,
        program: ExportedProgram,
        model: Weights,
        inputs: Arguments,
        *,
        visit: Visit,
        at: frozenset[str],
    ) -> None:
        self.values = _bindings(program, model, inputs)
        self.outputs: Any = None
        self._program = program
        self._last = _last_uses(program.graph)
        self._visit = visit
        self._at = at

    def arguments(self, node: fx.Node) -> tuple[Any, ...]:
        """The positional arguments of a node that is about to run."""
        given: tuple[Any, ...] = fx.node.map_arg(node.args, self.values.__getitem__)
        return given

    def bind(self, name: str, value: Tensor) -> None:
        """Another value for a parameter or buffer, for the nodes that did not run yet."""
        for node, target in weight_names(self._program).items():
            if target == name and node in self.values:
                self.values[node] = value

    def step(self, node: fx.Node) -> None:
        """Runs the node after the one that ran last, and drops what nobody needs any more."""
        if node.op == "output":
            flat: Any = fx.node.map_arg(node.args[0], self.values.__getitem__)
            self.outputs = pytree.tree_unflatten(flat, _output_spec(self._program))
        elif node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self._program.graph_module)
            self.values[node] = value
        elif node.op == "call_function":
            self.values[node] = self._called(node)
        elif node.op != "placeholder":
            raise InternalError(f"the exported graph has a node of kind {node.op}")
        for done in self._last.get(node, ()):
            del self.values[done]

    def _called(self, node: fx.Node) -> Any:
        args = self.arguments(node)
        kwargs = fx.node.map_arg(node.kwargs, self.values.__getitem__)
        value = node.target(*args, **kwargs)  # type: ignore[operator]
        return self._visit(node, args, value) if node.name in self._at else value


def weight_names(program: ExportedProgram) -> dict[fx.Node, str]:
    """The graph's inputs that are parameters or buffers, with their qualified names."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    return {
        node: str(spec.target)
        for node, spec in zip(nodes, program.graph_signature.input_specs, strict=True)
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER)
    }


def _output_spec(program: ExportedProgram) -> pytree.TreeSpec:
    spec: pytree.TreeSpec | None = program.call_spec.out_spec
    if spec is None:
        raise InternalError("the exported graph does not say how its outputs are arranged")
    return spec


def _bindings(program: ExportedProgram, model: Weights, inputs: Arguments) -> dict[fx.Node, Any]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    expected = program.call_spec.in_spec
    leaves, spec = pytree.tree_flatten(_in_order(inputs, expected))
    if spec != expected:
        raise TaskError(
            "these inputs are arranged otherwise than the ones the model was captured with",
            f"expected {expected}, got {spec}",
        )
    given = iter(leaves)
    values: dict[fx.Node, Any] = {}
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, wanted in zip(nodes, program.graph_signature.input_specs, strict=True):
        target = str(wanted.target)
        if wanted.kind is InputKind.PARAMETER:
            values[node] = parameters[target].detach()
        elif wanted.kind is InputKind.BUFFER:
            values[node] = buffers[target].detach().clone()
        elif wanted.kind is InputKind.USER_INPUT:
            values[node] = _checked(wanted.arg, next(given))
        else:
            constant = program.constants[target]
            values[node] = constant.clone() if isinstance(constant, torch.Tensor) else constant
    return values


def _checked(wanted: Any, leaf: Any) -> Any:
    """A copy of one input; a constant must be the one that the graph was captured with."""
    if isinstance(wanted, ConstantArgument) and wanted.value != leaf:
        raise TaskError(
            f"input {wanted.name} was captured with the constant {wanted.value!r}, got {leaf!r}",
            "what varies must be a tensor",
        )
    return leaf.detach().clone() if isinstance(leaf, Tensor) else leaf


def _in_order(inputs: Arguments, expected: Any) -> Arguments:
    """Keyword arguments in the order in which the graph was captured."""
    args, kwargs = inputs
    captured = list(pytree.tree_unflatten([0] * expected.num_leaves, expected)[1])
    if set(captured) != set(kwargs):
        return inputs
    return args, {name: kwargs[name] for name in captured}


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """For each node, the values nobody needs after it."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "output":
            continue
        final = max(node.users, key=order.__getitem__, default=node)
        if final.op != "output":
            last.setdefault(final, []).append(node)
    return last
