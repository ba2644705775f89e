"""An ONNX file from anywhere, read with the checks that untrusted input needs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from lilliput.coding.cuts import outside
from lilliput.coding.protobuf import find_tensors
from lilliput.errors import ContainerError

LARGEST_FILE = 2**31 - 2**20  # protobuf's limit, less room for the graph
OLDEST_OPSET = 7  # the oldest that ONNX Runtime supports
OPSET = 13  # the first whose DequantizeLinear takes a step per row
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
INTEGER_OPERATORS = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"),
        *("ConvInteger", "QLinearConv", "QLinearMatMul", "MatMulNBits", "QGemm", "QAttention"),
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "GatherBlockQuantized"),
    }
)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file in memory.

    Attributes:
        path: Where it was read from.
        model: The graph with all its weights.
        self_contained: No weight lies in another file.
        notes: What the user should know about it.
    """

    path: Path
    model: ir.Model
    self_contained: bool
    notes: tuple[str, ...] = ()


def read_onnx(path: str | Path) -> OnnxFile:
    """Reads an ONNX file; nothing in it is run or unpickled.

    External data must lie in the file's folder. Functions of the file's own are inlined later.

    Raises:
        ContainerError: No such file, not an ONNX file, external data that is missing, short or
            outside the folder, operators that the runtime does not have, or an operator set that
            is too old.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ContainerError(
            f"cannot read {path}: {error.strerror}", "is the path right?"
        ) from error
    tensors = find_tensors(memoryview(data))
    apart = outside(tensors, path.parent)
    size = len(data) + sum(cut.stop - cut.start for cuts in apart.values() for cut in cuts)
    if size > LARGEST_FILE:
        raise ContainerError(
            f"{path} has {size / 1e9:.1f} GB of weights; one ONNX file holds at most 2 GB",
            "split the model, or give its parts one by one",
        )
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ContainerError(f"{path} is not an ONNX file, or damaged") from error
    if not proto.graph.node:
        raise ContainerError(f"{path} is an ONNX file without a graph")
    if proto.graph.sparse_initializer:
        raise ContainerError(f"{path} holds sparse initializers", "export dense weights")
    if apart:
        onnx.load_external_data_for_model(proto, str(path.parent))
    _check_operators(path, proto)
    if opset_of(proto) < OLDEST_OPSET:
        raise ContainerError(
            f"{path} is written in operator set {opset_of(proto)}, which is too old",
            f"export it anew with operator set {OPSET} or later",
        )
    model = ir.from_proto(proto)
    return OnnxFile(path, model, not apart, _notes(model))


def _check_operators(path: Path, proto: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in proto.functions}
    strange = [
        f"{node.domain}.{node.op_type}"
        for node in (*proto.graph.node, *inner_nodes(proto.graph))
        if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own
    ]
    if strange:
        raise ContainerError(
            f"{path} uses operators that ONNX Runtime does not have: "
            f"{', '.join(sorted(set(strange))[:3])}",
            "export the model without custom operators",
        )


def inner_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of branches and loop bodies, at any depth."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from inner.node
                yield from inner_nodes(inner)


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the standard operator set; the newest where the file uses others only."""
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    return int(versions[0] if versions else onnx.defs.onnx_opset_version())


def _notes(model: ir.Model) -> tuple[str, ...]:
    found = sorted({node.op_type for node in model.graph.all_nodes()} & INTEGER_OPERATORS)
    if not found:
        return ()
    return (
        f"the file is quantized already ({', '.join(found)}): its integer weights stay as they are",
    )
