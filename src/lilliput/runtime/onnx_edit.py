"""Small edits of an ONNX graph: a new node, a new constant, another source for an input."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from lilliput.runtime.onnx_graph import inner_graphs, new_constant, unused_name

Use = tuple[str, int]  # name of a node, position of an input


class Editor:
    """Edits one graph; every new name is fresh."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes = {node.name or "": node for node in graph.all_nodes()}
        self.originals = dict(graph.initializers)
        self._tops = {name: node for node in graph for name in _names_within(node)}
        self._ranks = {node.name or "": rank for rank, node in enumerate(graph)}

    def node(
        self,
        before: ir.Node,
        operator: str,
        inputs: list[ir.Value],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """The output of a new node, inserted before another one, in the graph of that one."""
        name = unused_name(f"{inputs[0].name}_{operator}", self.nodes)
        node = ir.node(operator, inputs, dict(attributes or {}), domain=domain, name=name)
        return self._insert(before, node)[0]

    def outputs(
        self, before: ir.Node, operator: str, *, inputs: list[ir.Value], count: int
    ) -> tuple[ir.Value, ...]:
        """The outputs of a new node that has so many."""
        name = unused_name(f"{inputs[0].name}_{operator}", self.nodes)
        return self._insert(before, ir.node(operator, inputs, name=name, num_outputs=count))

    def _insert(self, before: ir.Node, node: ir.Node) -> tuple[ir.Value, ...]:
        name = node.name or ""
        for place, value in enumerate(node.outputs):
            value.name = f"{name}_{place}" if place else name
        (before.graph or self.graph).insert_before(before, node)
        self.nodes[name] = node
        return tuple(node.outputs)

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """A new initializer."""
        return new_constant(self.graph, name, array=array)

    def first(self, uses: Iterable[Use]) -> ir.Node:
        """The earliest node of the unedited graph that is named, or holds one in a branch."""
        tops = {self._tops[name].name or "": self._tops[name] for name, _ in uses}
        return tops[min(tops, key=self._ranks.__getitem__)]

    def connect(self, uses: Iterable[Use], value: ir.Value) -> None:
        """Lets these inputs read `value`."""
        for name, position in uses:
            self.nodes[name].replace_input_with(position, value)

    def substitute(self, node: ir.Node, value: ir.Value) -> None:
        """Puts `value` in the place of a node's only output and removes the node."""
        old = node.outputs[0]
        value.shape, value.type = value.shape or old.shape, value.type or old.type
        if old.is_graph_output():
            value.name, old.name = old.name, value.name
        ir.convenience.replace_all_uses_with(old, value, replace_graph_outputs=True)
        (node.graph or self.graph).remove(node, safe=True)

    def drop_unread(self, nodes: Iterable[ir.Node]) -> None:
        """Removes those of the nodes whose outputs nothing reads."""
        for node in nodes:
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                (node.graph or self.graph).remove(node, safe=True)


def _names_within(node: ir.Node) -> Iterator[str]:
    """Names of a node and of all nodes in its branches."""
    yield node.name or ""
    for graph in inner_graphs(node):
        yield from (inner.name or "" for inner in graph.all_nodes())
