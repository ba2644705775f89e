"""Runs a captured graph node by node, so that what flows through it can be seen."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from lilliput.errors import InternalError, TaskError
from lilliput.model.calls import Arguments

Visit = Callable[[fx.Node, tuple[Any, ...], Any], Any]


def run_graph(
    program: ExportedProgram,
    model: nn.Module,
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
    values = _bindings(program, model, inputs)
    last = _last_uses(program.graph)
    for node in program.graph.nodes:
        if node.op == "output":
            flat = fx.node.map_arg(node.args[0], values.__getitem__)
            return pytree.tree_unflatten(flat, _output_spec(program))
        if node.op == "get_attr":
            values[node] = operator.attrgetter(str(node.target))(program.graph_module)
        elif node.op == "call_function":
            args = fx.node.map_arg(node.args, values.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
            value = node.target(*args, **kwargs)
            values[node] = visit(node, args, value) if node.name in at else value
            del args, kwargs, value
        elif node.op != "placeholder":
            raise InternalError(f"the exported graph has a node of kind {node.op}")
        for done in last.get(node, ()):
            del values[done]
    raise InternalError("the exported graph has no output")


def _output_spec(program: ExportedProgram) -> pytree.TreeSpec:
    spec: pytree.TreeSpec | None = program.call_spec.out_spec
    if spec is None:
        raise InternalError("the exported graph does not say how its outputs are arranged")
    return spec


def _bindings(program: ExportedProgram, model: nn.Module, inputs: Arguments) -> dict[fx.Node, Any]:
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
