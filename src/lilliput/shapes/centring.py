"""What writes to a residual stream, so that its mean can be taken out of the weights."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from lilliput.shapes.flow import is_tensor, module_of, operator_name
from lilliput.shapes.widths import Shape

_THROUGH = {
    *("dropout", "dropout_", "clone", "contiguous", "detach", "alias", "to", "slice", "select"),
    *("view", "reshape", "flatten", "transpose", "permute", "expand", "unsqueeze", "squeeze"),
}
_SUMS = {"add", "add_"}
_WRITERS = {"linear": 0, "embedding": 1, "conv1d": 0, "conv2d": 0, "conv3d": 0}


@dataclass
class Stream:
    """The values whose mean along the last axis no one may read, and what writes them.

    Attributes:
        weights: Name of a parameter -> its axis along the stream.
        reason: Why the mean cannot be taken out; empty if it can.
    """

    weights: dict[str, int] = field(default_factory=dict)
    reason: str = ""


def stream_of(shape: Shape, norm: fx.Node) -> Stream:
    """The stream that a layer norm reads, back to what writes it and on to all that reads it.

    The mean can be taken out where linear layers, embeddings, convolutions and parameters write to
    it, and only layer norms read it.
    """
    return _Walk(shape).walked(norm)


def centred(model: nn.Module, weights: dict[str, int]) -> dict[str, Tensor]:
    """Weights less their means along the stream, in double precision between."""
    known = dict(model.named_parameters(remove_duplicate=False))
    found = {}
    with torch.no_grad():
        for name, axis in weights.items():
            wide = known[name].detach().double()
            found[name] = (wide - wide.mean(axis, keepdim=True)).to(known[name].dtype)
    return found


class _Walk:
    """One walk along a stream."""

    def __init__(self, shape: Shape) -> None:
        specs = shape.captured.graph.graph_signature.input_specs
        self.names = {one.arg.name: str(one.target) for one in specs}
        self.sources = shape.flow.sources
        self.placeholders = [n for n in shape.captured.graph.graph.nodes if n.op == "placeholder"]
        self.found = Stream()
        self.writing: set[fx.Node] = set()

    def walked(self, norm: fx.Node) -> Stream:
        """The stream before a norm."""
        start = norm.all_input_nodes[0]
        inside, frontier = {start}, [start]
        while frontier and not self.found.reason:
            node = frontier.pop()
            for other in (*self._before(node), *self._after(node)):
                if other not in inside:
                    inside.add(other)
                    frontier.append(other)
        if not self.found.reason:
            self._check_alone()
        return self.found

    def _before(self, node: fx.Node) -> list[fx.Node]:
        name = operator_name(node) if node.op == "call_function" else ""
        if node.op == "placeholder":
            self._write(node, node, -1)
            return []
        if name in _SUMS and len(node.all_input_nodes) == 2:
            return node.all_input_nodes
        if name in _THROUGH:
            return node.all_input_nodes[:1]
        if name == "cat":
            return node.all_input_nodes
        if name in _WRITERS:
            first, *rest = node.all_input_nodes[:3]
            weights = [first] if name == "embedding" else rest
            for weight in weights:
                axis = _WRITERS[name] if len(weight.meta["val"].shape) > 1 else 0
                self._write(node, weight, axis)
            return []
        self._stop(
            f"{name or 'the input'} in {module_of(node) or 'the model'} writes to what it norms"
        )
        return []

    def _after(self, node: fx.Node) -> list[fx.Node]:
        if node.op == "placeholder":
            return []
        reading = []
        for user in node.users:
            name = operator_name(user) if user.op == "call_function" else "the output"
            if name in _SUMS | _THROUGH | {"cat"}:
                reading.append(user)
            elif not (name == "layer_norm" and user.all_input_nodes[0] is node) and (
                user.op == "output" or is_tensor(user)
            ):
                self._stop(f"{name} in {module_of(user) or 'the model'} reads what it norms")
        return reading

    def _write(self, node: fx.Node, weight: fx.Node, axis: int) -> None:
        name = self.names.get(weight.name, "")
        if name not in self.sources or not self.sources[name].parameter:
            self._stop(f"{weight} is no parameter, and writes to what it norms")
            return
        self.writing.add(node)
        self.found.weights[name] = axis

    def _check_alone(self) -> None:
        """Weights that write to the stream do nothing else, under all their names."""
        twins = {self.sources[name].name for name in self.found.weights}
        for weight in self.placeholders:
            name = self.names.get(weight.name, "")
            if name not in self.sources or self.sources[name].name not in twins:
                continue
            for user in weight.users:
                if user not in self.writing and weight not in self.writing:
                    place = module_of(user) or "the model"
                    self._stop(f"{name} is read by {operator_name(user)} in {place} too")

    def _stop(self, reason: str) -> None:
        self.found.reason = self.found.reason or reason
