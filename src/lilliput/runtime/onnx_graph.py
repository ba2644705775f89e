"""What every edit of an ONNX graph needs: free names, new constants, and the graphs inside it."""

from collections.abc import Container, Iterator

import numpy as np
import onnx_ir as ir


def unused_name(stem: str, taken: Container[str | None]) -> str:
    """The stem itself, or with the first number from 2 on that is not taken."""
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}_{count}"
    return name


def new_constant(graph: ir.Graph, name: str, *, array: np.ndarray) -> ir.Value:
    """A new initializer under a free name, `name` where it is."""
    name = unused_name(name, graph.initializers)
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(
        name=name,
        const_value=tensor,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
    )
    graph.register_initializer(value)
    return value


def parents(model: ir.Model) -> dict[int, ir.Node]:
    """The node whose branch or body each inner graph is, by the graph's `id`."""
    return {id(graph): node for node in model.graph.all_nodes() for graph in inner_graphs(node)}


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The branches or the body of a control-flow node."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
