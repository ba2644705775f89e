"""Residual sums of a captured graph, and the modules that are chains of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, fx

from lilliput.model.sizes import hint, symbol
from lilliput.shapes.flow import is_tensor, operator_name

_SUMS = {"add", "add_"}
_ALIASES = {"alias", "clone", "contiguous", "detach", "to"}
_DROPOUTS = {"dropout", "dropout_", "feature_dropout"}
_NORMS = {"layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm"}
_ACTIVATIONS = {"relu", "relu_", "relu6", "gelu", "silu", "silu_", "hardtanh", "hardswish", "elu"}
_SAME = _ALIASES | _DROPOUTS
_AFTER = _NORMS | _ACTIVATIONS | _SAME
_NOWHERE = "_empty_nn_module_stack"  # the exporter's mark on operators of its own

Size = tuple[int | None, ...]


@dataclass(frozen=True)
class Residual:
    """A sum of a value and of what a branch makes of it.

    Attributes:
        entry: The value.
        added: The sum.
        exit: The sum, or the norm or activation that alone reads it.
        branch: The other side of the sum.
    """

    entry: fx.Node
    added: fx.Node
    exit: fx.Node
    branch: fx.Node


@dataclass(frozen=True)
class Call:
    """One call of a module, as it lies in the graph.

    Attributes:
        path: Its qualified name.
        kind: Its class.
        number: Which call of it, from 0.
        nodes: Its operators, those of inner modules included, in order.
    """

    path: str
    kind: str
    number: int
    nodes: tuple[fx.Node, ...]

    @property
    def results(self) -> list[fx.Node]:
        """Tensors that something outside of it reads."""
        inside = set(self.nodes)
        return [node for node in self.nodes if is_tensor(node) and not inside >= set(node.users)]

    @property
    def given(self) -> list[fx.Node]:
        """Tensors from outside, weights among them."""
        inside = set(self.nodes)
        read = dict.fromkeys(one for node in self.nodes for one in node.all_input_nodes)
        return [node for node in read if node not in inside and is_tensor(node)]


def size_of(node: fx.Node) -> Size:
    """The shape of a node's value, None for axes that vary."""
    return tuple(None if symbol(n) is not None else hint(n) for n in node.meta["val"].shape)


def between(entry: fx.Node, exit: fx.Node, *, order: dict[fx.Node, int]) -> list[fx.Node]:
    """What lies on the ways from one value to another, the latter included, in order.

    Ways through whole numbers (sizes of a tensor) do not count. Empty where there is none.

    Args:
        entry: Where the ways start.
        exit: Where they end.
        order: Places of all nodes in the graph.
    """
    behind, frontier = {exit}, [exit]
    while frontier:
        for one in frontier.pop().all_input_nodes:
            if one not in behind and order[one] > order[entry]:
                behind.add(one)
                frontier.append(one)
    found: list[fx.Node] = []
    reached = {entry}
    for node in sorted(behind, key=order.__getitem__):
        if _has_tensors(node) and reached.intersection(node.all_input_nodes):
            reached.add(node)
            found.append(node)
    return found if exit in reached else []


def residuals(graph: fx.Graph, parameters: set[fx.Node]) -> list[Residual]:
    """All residual sums with weights in their branch, in the order of the graph.

    Args:
        graph: A non-decomposed capture.
        parameters: Its inputs that are parameters.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        for entry, branch in _sides(node):
            inner = between(entry, node, order=order)
            if parameters.intersection(weights_of(inner)):
                found.append(Residual(entry, node, _exit(entry, node, inner), branch))
                break
    return found


def weights_of(nodes: Iterable[fx.Node]) -> list[fx.Node]:
    """Inputs of the graph that some nodes read."""
    read = (one for node in nodes for one in node.all_input_nodes)
    return [one for one in dict.fromkeys(read) if one.op == "placeholder"]


def calls(graph: fx.Graph) -> list[Call]:
    """Calls of all modules below the model itself, in the order in which they begin."""
    nodes: dict[str, list[fx.Node]] = {}
    named: dict[str, tuple[str, str]] = {}
    for node in graph.nodes:
        stack = (node.meta.get("nn_module_stack") or {}).items() if _is_call(node) else ()
        for key, (path, kind) in stack:
            if path and not path.startswith(_NOWHERE):
                nodes.setdefault(key, []).append(node)
                named[key] = (path, str(getattr(kind, "__name__", kind)))
    found: list[Call] = []
    for key, inside in nodes.items():
        path, kind = named[key]
        number = sum(one.path == path for one in found)
        found.append(Call(path, kind, number, tuple(inside)))
    return found


def chain(call: Call, sums: dict[fx.Node, Residual]) -> tuple[fx.Node, fx.Node] | None:
    """What a call is given and what it returns, where it is a chain of residual sums.

    Norms, activations and dropout may follow a sum. None where it is no such chain.

    Args:
        call: Of a module.
        sums: The residuals by their sums.
    """
    results = call.results
    if len(results) != 1 or not is_tensor(results[0]):
        return None
    for entry in call.given:
        reached: set[fx.Node] = set()
        starts = {entry, source_of(entry)}
        for node in call.nodes:
            residual = sums.get(node)
            added = residual is not None and source_of(residual.entry) in starts | reached
            after = operator_name(node) in _AFTER and bool({*node.args[:1]} & reached)
            if added or after:
                reached.add(node)
        if results[0] in reached and size_of(results[0]) == size_of(entry):
            return entry, results[0]
    return None


def _sides(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """Both readings of a sum of two tensors of its own shape: (what passes by, the branch)."""
    if node.op != "call_function" or operator_name(node) not in _SUMS or len(node.args) != 2:
        return
    if node.kwargs or not all(isinstance(one, fx.Node) and is_tensor(one) for one in node.args):
        return
    one, other = node.args
    if size_of(one) == size_of(other) == size_of(node):  # type: ignore[arg-type]
        for passing, branch in ((one, other), (other, one)):
            for through in (_ALIASES, _SAME):
                yield source_of(passing, through), branch  # type: ignore[arg-type, misc]


def source_of(node: fx.Node, through: set[str] = _SAME) -> fx.Node:
    """The value itself, before copies of it and dropout."""
    while node.op == "call_function" and operator_name(node) in through:
        before = node.all_input_nodes[0]
        if before.meta["val"].dtype != node.meta["val"].dtype:
            break
        node = before
    return node


def _exit(entry: fx.Node, added: fx.Node, inner: list[fx.Node]) -> fx.Node:
    """The sum, or the norm or activation behind it that belongs to every block of the chain.

    That belongs to the block where the branch does not begin with one, and where the chain goes on
    from behind it or came in through one of the same kind.
    """
    first = [node for node in entry.users if node in inner and node is not added]
    if first and all(operator_name(node) in _NORMS | _ACTIVATIONS for node in first):
        return added
    last = added
    while len(last.users) == 1 and operator_name(node := next(iter(last.users))) in _AFTER:
        last = node
        if operator_name(node) not in _SAME:
            break
    alike = operator_name(source_of(entry)) == operator_name(last)
    return last if alike or len(last.users) > 1 else added


def _has_tensors(node: fx.Node) -> bool:
    value = node.meta.get("val")
    several = value if isinstance(value, tuple | list) else [value]
    return any(isinstance(one, Tensor) for one in several)


def _is_call(node: fx.Node) -> bool:
    return node.op == "call_function"
