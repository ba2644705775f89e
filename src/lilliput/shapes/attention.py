"""Where a model attends: the projections that make keys and values, found on the graph."""

from dataclasses import dataclass

import numpy as np
from torch import fx, nn

from lilliput.shapes.flow import is_tensor, module_of, operator_name
from lilliput.shapes.residuals import size_of
from lilliput.shapes.widths import Shape

_PRODUCTS = {"matmul", "bmm"}


@dataclass(frozen=True)
class Attention:
    """Keys and values of one attention.

    Attributes:
        key: Module that makes the keys.
        value: Module that makes the values.
        heads: How many heads both have.
        size: Outputs of a head.
        queries: How many heads the queries have.
    """

    key: str
    value: str
    heads: int
    size: int
    queries: int


def attentions(model: nn.Module, shape: Shape) -> tuple[dict[str, Attention], dict[str, str]]:
    """Attentions by the module that holds their projections, and why others are not taken.

    Args:
        model: The model.
        shape: Its capture.
    """
    found: dict[str, Attention] = {}
    reasons: dict[str, str] = {}
    for node in shape.captured.graph.graph.nodes:
        ends = _ends(node)
        if ends is None:
            continue
        query, key, value = (_projection(end) for end in ends)
        name = module_of(node) or "the model"
        if query is None or key is None or value is None:
            reasons[name] = "its queries, keys and values are not each made by one linear layer"
            continue
        if len({query, key, value}) < 3:
            reasons[name] = "its queries, keys and values are made by one product"
            continue
        paths = [module_of(one) for one in (key, value)]
        name = paths[0].rpartition(".")[0] or paths[0]
        taken = _attention(model, shape, paths, size_of(ends[0]))
        if isinstance(taken, str):
            reasons[name] = taken
        else:
            found[name] = taken
    return found, reasons


def _ends(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node] | None:
    """Query, key and value of a fused attention, or around a softmax."""
    name = operator_name(node) if node.op == "call_function" else ""
    if name == "scaled_dot_product_attention":
        return node.args[0], node.args[1], node.args[2]  # type: ignore[return-value]
    if name != "softmax":
        return None
    scores = node.all_input_nodes[0]
    while operator_name(scores) not in _PRODUCTS:
        if scores.op != "call_function" or not scores.all_input_nodes:
            return None
        scores = scores.all_input_nodes[0]
    mixed = node
    while operator_name(mixed) not in _PRODUCTS:
        readers = [one for one in mixed.users if is_tensor(one)]
        if len(readers) != 1:
            return None
        mixed = readers[0]
    if len(scores.args) < 2 or len(mixed.args) < 2:
        return None
    return scores.args[0], scores.args[1], mixed.args[1]  # type: ignore[return-value]


def _projection(end: fx.Node) -> fx.Node | None:
    """The one linear layer behind a query, key or value; None where there are others."""
    found, seen, frontier = set(), {end}, [end]
    while frontier:
        node = frontier.pop()
        if operator_name(node) == "linear":
            found.add(node)
            continue
        for one in node.all_input_nodes:
            if one not in seen:
                seen.add(one)
                frontier.append(one)
    return found.pop() if len(found) == 1 else None


def _attention(
    model: nn.Module, shape: Shape, paths: list[str], query: tuple[int | None, ...]
) -> Attention | str:
    """The attention with these projections, or why it cannot be taken."""
    modules = [model.get_submodule(path) for path in paths]
    if not all(type(module) is nn.Linear for module in modules):
        return f"{paths[0]} and {paths[1]} are not both linear layers of torch"
    layouts = [_rows(shape, f"{path}.weight") for path in paths]
    if None in layouts or layouts[0] != layouts[1] or query[-1] is None:
        return "the heads of its keys and values could not be told apart"
    heads, size = layouts[0]  # type: ignore[misc]
    queries = query[-3] if len(query) > 3 else None
    if size != query[-1] or queries is None:
        return "the heads of its keys and values could not be told apart"
    return Attention(paths[0], paths[1], heads, size, queries)


def _rows(shape: Shape, weight: str) -> tuple[int, int] | None:
    """Heads and outputs of a head along a weight's rows; None where they do not lie in order."""
    for width in shape.widths.values():
        for tie in width.ties:
            rows = tie.positions
            ordered = np.array_equal(rows.reshape(-1), np.arange(rows.size))
            if tie.weight == weight and tie.axis == 0 and ordered:
                return rows.shape[0], rows.shape[1]
    return None
