"""Which weights to change so that a residual block gives what it is given."""

from dataclasses import dataclass

from torch import fx

from lilliput.shapes.flow import named_arguments, operator_name

_SUMS = {"add", "add_"}
_SAME = {"clone", "contiguous", "detach", "dropout", "dropout_", "feature_dropout", "alias", "to"}
_ONCE = {"relu", "relu_", "relu6", "relu6_", "hardtanh", "clamp", "clamp_min"}  # f(f(x)) = f(x)
_NORMS = {"layer_norm", "rms_norm"}
_SCALED = {"linear", "batch_norm", "instance_norm", "layer_norm", "rms_norm", "group_norm"}
_SILENT = {  # zero of zero
    *_SAME,
    *_ONCE,
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "unsqueeze", "squeeze"),
    *("slice", "pad", "gelu", "silu", "tanh", "neg", "div", "div_", "mean"),
    *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"),
}


@dataclass(frozen=True)
class Stillness:
    """What makes a block give what it is given.

    Attributes:
        zeros: Nodes of weights that are zero then.
        norms: Norms that what passes by goes through, in order: a norm of its own result changes
            nothing while it does not scale, so only the last may.
    """

    zeros: tuple[fx.Node, ...] = ()
    norms: tuple[fx.Node, ...] = ()

    def and_(self, zeros: tuple[fx.Node, ...] = (), norms: tuple[fx.Node, ...] = ()) -> "Stillness":
        """The same with more of both."""
        return Stillness((*self.zeros, *zeros), (*self.norms, *norms))


def stillness(entry: fx.Node, exit: fx.Node, *, parameters: set[fx.Node]) -> Stillness | None:
    """How a block can be made to give what it is given; None where no way is known.

    Args:
        entry: The node that it is given.
        exit: The node that it gives.
        parameters: Inputs of the graph that are weights.
    """
    name = operator_name(exit) if exit.op == "call_function" else ""
    if _source(exit) is _source(entry):
        return Stillness()
    if name in _SUMS:
        for passing, branch in (exit.all_input_nodes, exit.all_input_nodes[::-1]):
            inner = stillness(entry, passing, parameters=parameters)
            zeros = _silenced(branch, parameters) if inner is not None else None
            if inner is not None and zeros is not None:
                return inner.and_(zeros=zeros)
    if name in _SAME | _ONCE | _NORMS:
        inner = stillness(entry, exit.all_input_nodes[0], parameters=parameters)
        return inner.and_(norms=(exit,)) if inner is not None and name in _NORMS else inner
    return None


def scales(norm: fx.Node) -> list[fx.Node]:
    """Nodes of a norm's scale and shift, where it has them."""
    values = named_arguments(norm)
    return [values[name] for name in ("weight", "bias") if values.get(name) is not None]


def _silenced(node: fx.Node, parameters: set[fx.Node]) -> tuple[fx.Node, ...] | None:
    """Weights that make a value zero when they are; None where none do."""
    if node in parameters:
        return (node,)
    if node.op != "call_function":
        return None
    name, given = operator_name(node), node.all_input_nodes
    if name in _SCALED or name.startswith("conv"):
        found = tuple(scales(node))
        return found if found and parameters.issuperset(found) else None
    if name in _SILENT:
        return _silenced(given[0], parameters)
    if name in ("mul", "mul_", "matmul"):
        ways = [
            _silenced(one, parameters) for one in sorted(given, key=lambda n: n not in parameters)
        ]
        return next((way for way in ways if way is not None), None)
    if name == "addmm":
        weights = tuple(one for one in given if one in parameters)
        return weights if len(weights) == 2 else None  # the shift, and one of the factors
    if name in _SUMS | {"cat", "concat"}:
        ways = [_silenced(one, parameters) for one in given]
        whole = [way for way in ways if way is not None]
        return tuple(one for way in whole for one in way) if len(whole) == len(ways) else None
    return None


def _source(node: fx.Node) -> fx.Node:
    """The value itself, before what leaves it as it is."""
    while node.op == "call_function" and operator_name(node) in _SAME:
        before = node.all_input_nodes[0]
        if before.meta["val"].dtype != node.meta["val"].dtype:
            break
        node = before
    return node
