"""Where an ONNX file keeps its tensors, read off the protobuf wire format without re-serialising.

Field numbers are those of onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto,
TensorProto, StringStringEntryProto).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lilliput.errors import ContainerError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MODEL_VERSION, MODEL_GRAPH, MODEL_FUNCTIONS = 1, 7, 25
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_ATTRIBUTE, FUNCTION_NODE = 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
DIMS, DATA_TYPE, FLOAT_DATA, NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 4, 8, 9, 13
MAX_DEPTH = 32  # graphs inside attributes of nodes of graphs
Span = tuple[int, int]


@dataclass(frozen=True)
class TensorBytes:
    """A tensor of an ONNX file and where its values are.

    Attributes:
        name: Its name; may be empty.
        data_type: ONNX's number of its element type.
        dims: Its shape.
        span: First and last + 1 byte of its values in the file; None where they are elsewhere.
        external: ``external_data`` as a dictionary; empty where the values are in the file.
    """

    name: str
    data_type: int
    dims: tuple[int, ...]
    span: Span | None
    external: dict[str, str]


def find_tensors(data: memoryview) -> list[TensorBytes]:
    """Every initializer and attribute tensor of a serialised ModelProto, in file order.

    Raises:
        ContainerError: The bytes are not an ONNX model.
    """
    version, graphs, tensors = 0, 0, []
    for field, wire, value, span in _fields(data, (0, len(data))):
        if field == MODEL_VERSION and wire == VARINT:
            version = value
        elif field == MODEL_GRAPH and wire == BYTES:
            graphs += 1
            tensors += _graph(data, span, 0)
        elif field == MODEL_FUNCTIONS and wire == BYTES:
            tensors += _nodes(data, span, FUNCTION_NODE, 0)
    if not version or not graphs:
        raise ContainerError("not an ONNX file: it has no version or no graph")
    return tensors


def _graph(data: memoryview, span: Span, depth: int) -> list[TensorBytes]:
    if depth > MAX_DEPTH:
        raise ContainerError("not a usable ONNX file: its graphs are nested too deeply")
    tensors = []
    for field, wire, _, inner in _fields(data, span):
        if field == GRAPH_INITIALIZER and wire == BYTES:
            tensors.append(_tensor(data, inner))
        elif field == GRAPH_NODE and wire == BYTES:
            tensors += _node(data, inner, depth)
    return tensors


def _nodes(data: memoryview, span: Span, number: int, depth: int) -> list[TensorBytes]:
    tensors = []
    for field, wire, _, inner in _fields(data, span):
        if field == number and wire == BYTES:
            tensors += _node(data, inner, depth)
    return tensors


def _node(data: memoryview, span: Span, depth: int) -> list[TensorBytes]:
    tensors = []
    for field, wire, _, attribute in _fields(data, span):
        if field != NODE_ATTRIBUTE or wire != BYTES:
            continue
        for kind, inner_wire, _, inner in _fields(data, attribute):
            if inner_wire != BYTES:
                continue
            if kind in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                tensors.append(_tensor(data, inner))
            elif kind in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                tensors += _graph(data, inner, depth + 1)
    return tensors


def _tensor(data: memoryview, span: Span) -> TensorBytes:
    name, data_type, dims, values, external = "", 0, [], None, {}
    for field, wire, value, inner in _fields(data, span):
        if field == DIMS:
            dims += [value] if wire == VARINT else _packed(data, inner)
        elif field == DATA_TYPE and wire == VARINT:
            data_type = value
        elif field == NAME and wire == BYTES:
            name = _text(data, inner)
        elif field in (RAW_DATA, FLOAT_DATA) and wire == BYTES:
            values = inner
        elif field == EXTERNAL_DATA and wire == BYTES:
            key, text = _entry(data, inner)
            external[key] = text
    return TensorBytes(name, data_type, tuple(dims), values, external)


def _entry(data: memoryview, span: Span) -> tuple[str, str]:
    found = {1: "", 2: ""}
    for field, wire, _, inner in _fields(data, span):
        if field in found and wire == BYTES:
            found[field] = _text(data, inner)
    return found[1], found[2]


def _text(data: memoryview, span: Span) -> str:
    return bytes(data[span[0] : span[1]]).decode("utf-8", errors="replace")


def _packed(data: memoryview, span: Span) -> list[int]:
    numbers, position = [], span[0]
    while position < span[1]:
        number, position = _varint(data, position, span[1])
        numbers.append(number)
    return numbers


def _fields(data: memoryview, span: Span) -> Iterator[tuple[int, int, int, Span]]:
    """Every field of a message: (number, wire type, varint value, span of its bytes)."""
    position, end = span
    while position < end:
        key, position = _varint(data, position, end)
        wire, value = key & 7, 0
        if wire == VARINT:
            value, stop = _varint(data, position, end)
        elif wire == BYTES:
            size, position = _varint(data, position, end)
            stop = position + size
        elif wire in (FIXED64, FIXED32):
            stop = position + (8 if wire == FIXED64 else 4)
        else:
            raise ContainerError("not an ONNX file: a field of an unknown wire type")
        if stop > end or not key >> 3:
            raise ContainerError("not an ONNX file, or it is cut short: a field ends too late")
        yield key >> 3, wire, value, (position, stop)
        position = stop


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        group = data[position]
        position += 1
        value |= (group & 0x7F) << shift
        if group < 0x80:
            return value, position
    raise ContainerError("not an ONNX file, or it is cut short: a number does not end")
