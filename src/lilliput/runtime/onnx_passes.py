"""Small edits of an ONNX graph that the libraries lack, or do not do inside branches."""

import numpy as np
import onnx_ir as ir

from lilliput.runtime.onnx_graph import new_constant, unused_name

_INFERENCE_VALUES = frozenset({"Identity", "Dropout"})


def drop_identities(model: ir.Model) -> None:
    """Removes Identity and inference-time Dropout nodes, in branches too.

    One that names an output of a graph stays where its input is no value of that same graph.
    """
    for node in list(model.graph.all_nodes()):
        if node.op_type not in _INFERENCE_VALUES or node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "Dropout" and not _inactive(node):
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or node.graph is None or any(o.uses() for o in node.outputs[1:]):
            continue
        if any(output.is_graph_output() for output in node.outputs[1:]):
            continue
        if result.is_graph_output():
            continue
        ir.convenience.replace_all_uses_with(result, source)
        node.graph.remove(node, safe=True)


def _inactive(node: ir.Node) -> bool:
    """Whether a Dropout does nothing: no training mode, or a constant that says no."""
    flag = node.inputs[2] if len(node.inputs) > 2 else None
    if flag is None:
        return True
    constant = flag.const_value
    return constant is not None and not bool(np.any(constant.numpy()))


def fold_product_norms(model: ir.Model) -> None:
    """BatchNorm behind MatMul with a constant (in, out) factor: a MatMul and an Add."""
    for node in list(model.graph.all_nodes()):
        if node.op_type != "BatchNormalization" or len(node.inputs) < 5 or node.graph is None:
            continue
        product = node.inputs[0].producer() if node.inputs[0] is not None else None
        if product is None or product.op_type != "MatMul" or len(node.inputs[0].uses()) != 1:  # type: ignore[union-attr]
            continue
        weight, norm = product.inputs[1], [_constant(value) for value in node.inputs[1:5]]
        matrix = _constant(weight)
        fixed = all(part is not None for part in (matrix, *norm))
        if not fixed or matrix is None or matrix.ndim != 2 or node.inputs[0].is_graph_output():  # type: ignore[union-attr]
            continue
        if any(output.uses() for output in node.outputs[1:]):
            continue
        _fold_one(model, product, node)


def _fold_one(model: ir.Model, product: ir.Node, norm: ir.Node) -> None:
    gamma, beta, mean, variance = (_exact(value) for value in norm.inputs[1:5])
    attribute = norm.attributes.get("epsilon")
    epsilon = 1e-5 if attribute is None else attribute.as_float()
    factor = gamma / np.sqrt(variance + epsilon)
    old = product.inputs[1]
    if old is None or norm.graph is None:
        return
    kind = np.asarray(old.const_value.numpy()).dtype  # type: ignore[union-attr]
    folded, shift = (_exact(old) * factor).astype(kind), (beta - mean * factor).astype(kind)
    weight = new_constant(model.graph, f"{old.name}.folded", array=folded)
    bias = new_constant(model.graph, f"{old.name}.bias", array=shift)
    product.replace_input_with(1, weight)
    add = ir.node("Add", [product.outputs[0], bias])
    norm.graph.insert_before(norm, add)
    ir.convenience.replace_all_uses_with(
        norm.outputs[0], add.outputs[0], replace_graph_outputs=True
    )
    add.outputs[0].name, norm.outputs[0].name = norm.outputs[0].name, None
    norm.graph.remove(norm, safe=True)


def _constant(value: ir.Value | None) -> np.ndarray | None:
    constant = None if value is None else value.const_value
    return None if constant is None else np.asarray(constant.numpy())


def _exact(value: ir.Value | None) -> np.ndarray:
    found = _constant(value)
    if found is None:
        raise TypeError("not a constant")
    return found.astype(np.float64)


def name_apart(model: ir.Model) -> None:
    """Gives every node and every inner value a name of its own, without slashes.

    The runtime appends its own words to names after a slash.
    """
    graph = model.graph
    nodes: set[str] = set()
    values = {v.name for v in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    for node in model.graph.all_nodes():
        node.name = unused_name(_plain(node.name or node.op_type), nodes)
        nodes.add(node.name)
        for value in node.outputs:
            if value.name and value not in graph.outputs:
                value.name = unused_name(_plain(value.name), values)
                values.add(value.name)


def _plain(name: str) -> str:
    return name.strip("/").replace("/", ".") or "unnamed"
