"""What an exported graph may carry: no paths, no chatter, no value twice, the same bytes again."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from lilliput.errors import OutputError

_TRANSPOSABLE_BYTES = 4096  # smaller twins are not worth a node


def clean(model: ir.Model) -> None:
    """Strips metadata, documentation and intermediate shapes; stores equal initializers once.

    The exporter writes stack traces with the paths of the user's machine into every node. A
    transposed twin of a larger initializer (a tied output layer) becomes a Transpose of it, which
    the runtime folds when it loads the file.
    """
    _strip(model)
    store_once(model)


def _strip(model: ir.Model) -> None:
    graph = model.graph
    model.doc_string = graph.doc_string = None
    model.metadata_props.clear()
    graph.metadata_props.clear()
    model.producer_name, model.producer_version = "lilliput", None
    strip_nodes(model)


def strip_nodes(model: ir.Model) -> None:
    """Removes what nodes and values say beside what they compute; the model's own words stay."""
    graph = model.graph
    outputs = {*graph.outputs, *(v for inner in graph.subgraphs() for v in inner.outputs)}
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in outputs:
                value.shape, value.type = None, None
    for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
        if isinstance(value.const_value, ir.Tensor):
            value.const_value.metadata_props.clear()
            value.const_value.doc_string = None


def store_once(model: ir.Model) -> None:
    """Merges equal initializers, drops unread ones, derives transposed twins from one copy."""
    graph = model.graph
    first: dict[tuple[object, ...], ir.Value] = {}
    for value in list(graph.initializers.values()):
        if value.is_graph_output():
            continue
        if not value.uses():
            graph.initializers.pop(value.name or "")
            continue
        array = array_of(value)
        twin = first.get(_key(array))
        if twin is not None:
            ir.convenience.replace_all_uses_with(value, twin)
            graph.initializers.pop(value.name or "")
            continue
        twin = first.get(_key(array.T)) if _worth_turning(array) else None
        if twin is not None:
            _turn(graph, value, twin)
            continue
        first[_key(array)] = value


def _worth_turning(array: np.ndarray) -> bool:
    return array.ndim == 2 and array.nbytes >= _TRANSPOSABLE_BYTES and 1 not in array.shape


def _turn(graph: ir.Graph, value: ir.Value, twin: ir.Value) -> None:
    node = ir.node("Transpose", [twin], {"perm": [1, 0]}, name=f"turn_{value.name}")
    node.outputs[0].name = f"{value.name}_turned"
    first_node = next(iter(graph))
    graph.insert_before(first_node, node)
    ir.convenience.replace_all_uses_with(value, node.outputs[0])
    graph.initializers.pop(value.name or "")


def _key(array: np.ndarray) -> tuple[object, ...]:
    return str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest()


def array_of(value: ir.Value) -> np.ndarray:
    """The constant that an initializer holds."""
    if value.const_value is None:
        raise TypeError(f"{value.name} is no initializer")
    return np.asarray(value.const_value.numpy())


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )


def onnx_bytes(model: ir.Model) -> bytes:
    """A checked ONNX file; equal models give equal bytes."""
    proto = ir.to_proto(model)
    if all(value.shape is not None for value in model.graph.outputs):
        onnx.checker.check_model(proto)  # it insists on shapes that ONNX itself leaves open
    return bytes(proto.SerializeToString(deterministic=True))


def save(model: ir.Model, path: Path) -> None:
    """Writes a checked ONNX file; equal models give equal bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    data = onnx_bytes(model)
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"cannot write {path.name}: {error.strerror}") from error
