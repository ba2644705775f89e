"""Edits of an ONNX graph that change no function: checked on real inputs, undone if they do.

The heavy ones are passes of onnx_ir and onnxscript; what they answer is compared with the file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from lilliput.errors import ContainerError, TaskError
from lilliput.runtime.fidelity import fidelity
from lilliput.runtime.onnx_clean import store_once, strip_nodes, weight_bytes
from lilliput.runtime.onnx_passes import drop_identities, fold_product_norms, name_apart
from lilliput.runtime.onnx_read import OPSET
from lilliput.runtime.sessions import default_session, run_session

LEAST_DECIBELS = {"float16": 40.0, "float32": 80.0, "float64": 80.0}
LARGEST_CONSTANT = 2**26  # numbers that a folded node may put out
SMALL = 1024  # numbers; larger constants are weights
SLACK_BYTES = 2**16  # an edit may add so many bytes of weights
_NEVER_FOLDED = frozenset(
    {
        *("Tile", "EyeLike", "Range", "RandomNormal", "RandomUniform", "RandomNormalLike"),
        *("RandomUniformLike", "Multinomial", "Bernoulli", "QuantizeLinear", "DequantizeLinear"),
        *("If", "Loop", "Scan"),
    }
)
_REPEATING = {"ConstantOfShape": 0, "Expand": 1}  # operator -> which input is the shape
_FAILURES = (
    AssertionError,
    AttributeError,
    ContainerError,
    LookupError,
    RuntimeError,
    TaskError,
    TypeError,
    ValueError,
    onnx.checker.ValidationError,
)
Feed = Mapping[str, np.ndarray]
Answers = Sequence[np.ndarray]
Edit = Callable[[ir.Model], ir.Model]


@dataclass(frozen=True)
class Simplified:
    """A graph after the edits that held.

    Attributes:
        model: The graph.
        removed: What was done -> by how many nodes the graph shrank (0: by bytes only).
        largest_difference: Largest absolute difference of any output number, rounding of folded
            weights included.
        undone: Edits that failed or changed the answers, and were rolled back.
        bytes_before: Bytes of all weights, before.
        bytes_after: The same, after.
    """

    model: ir.Model
    removed: Mapping[str, int]
    largest_difference: float
    undone: tuple[str, ...]
    bytes_before: int
    bytes_after: int


def simplify(model: ir.Model, feeds: Sequence[Feed]) -> Simplified:
    """Folds, merges and removes what an ONNX graph can do without.

    Args:
        model: The graph; it is not changed.
        feeds: Inputs by name on which old and new answers are compared; at least one call.

    Returns:
        The edits that left every output equal up to float rounding: at least 80 decibels (40 in
        half precision), integers exactly.

    Raises:
        ContainerError: The runtime cannot open the graph as it is.
        TaskError: It does not run on these inputs.
    """
    wanted = _answers(model, feeds)
    all_at_once = _edited(model, feeds, wanted, each=False)
    difference = _difference(all_at_once.model, feeds, wanted)
    if difference is None:
        return _edited(model, feeds, wanted, each=True)
    return replace(all_at_once, largest_difference=difference)


def _edited(
    model: ir.Model, feeds: Sequence[Feed], wanted: Sequence[Answers], *, each: bool
) -> Simplified:
    """One edit after the other; with `each` the answers are compared after every one."""
    removed: dict[str, int] = {}
    undone: list[str] = []
    kept, largest, before = model, 0.0, stored_bytes(model)
    for name, edit in EDITS:
        candidate = _tried(kept, edit, most=max(before, stored_bytes(kept)) + SLACK_BYTES)
        difference: float | None = largest
        if candidate is not None and each:
            difference = _difference(candidate, feeds, wanted)
        if candidate is None or difference is None:
            undone.append(name)
            continue
        fewer = _node_count(kept) - _node_count(candidate)
        if fewer or stored_bytes(candidate) != stored_bytes(kept):
            removed[name] = fewer
        kept, largest = candidate, difference
    return Simplified(kept, removed, largest, tuple(undone), before, stored_bytes(kept))


def _tried(model: ir.Model, edit: Edit, *, most: int) -> ir.Model | None:
    """An edited copy; None where the edit fails or adds more than `most` bytes of weights."""
    try:
        edited = edit(model.clone())
        passes.RemoveUnusedNodesPass()(edited)
    except _FAILURES:
        return None
    return edited if stored_bytes(edited) <= most else None


def _difference(model: ir.Model, feeds: Sequence[Feed], wanted: Sequence[Answers]) -> float | None:
    """The largest difference of any answer; None where it is more than rounding."""
    try:
        answers = _answers(model, feeds)
    except _FAILURES:
        return None
    largest = 0.0
    for old, new in zip(wanted, answers, strict=True):
        for before, after in zip(old, new, strict=True):
            if before.shape != after.shape or before.dtype != after.dtype:
                return None
            found = fidelity([(before, after)])
            least = LEAST_DECIBELS.get(str(before.dtype), np.inf)
            if found.decibels is not None and found.decibels < least:
                return None
            largest = max(largest, found.largest_difference or 0.0)
    return largest


def _answers(model: ir.Model, feeds: Sequence[Feed]) -> list[Answers]:
    session = default_session(ir.to_proto(model).SerializeToString())
    return [[np.asarray(value) for value in run_session(session, feed)] for feed in feeds]


def _node_count(model: ir.Model) -> int:
    return sum(node.op_type != "Constant" for node in model.graph.all_nodes())


def stored_bytes(model: ir.Model) -> int:
    """Bytes of all weights, those in Constant nodes and inner graphs included."""
    total = weight_bytes(model)
    for node in model.graph.all_nodes():
        value = node.attributes.get("value")
        if node.op_type == "Constant" and value is not None:
            total += value.as_tensor().nbytes
    for graph in model.graph.subgraphs():
        constants = [value.const_value for value in graph.initializers.values()]
        total += sum(constant.nbytes for constant in constants if constant is not None)
    return total


def _inline(model: ir.Model) -> ir.Model:
    passes.InlinePass()(model)
    return model


def _modernise(model: ir.Model) -> ir.Model:
    """To the operator set in which integers with a step per row can be stored."""
    version = model.graph.opset_imports.get("", OPSET)
    if version >= OPSET:
        return model
    lifted: ir.Model = ir.from_proto(
        onnx.version_converter.convert_version(ir.to_proto(model), OPSET)
    )
    lifted.metadata_props.update(model.metadata_props)
    return lifted


def _fold(model: ir.Model) -> ir.Model:
    """Computes what depends on constants only, and takes the branch that a constant chooses."""
    passes.ShapeInferencePass()(model)
    fold_constants(
        model,
        input_size_limit=LARGEST_CONSTANT,
        output_size_limit=LARGEST_CONSTANT,
        should_fold=_worth_folding,
    )
    model = ir.from_proto(ir.to_proto(model))  # branches not taken no longer count as readers
    drop_identities(model)
    _lift_constants(model)
    passes.RemoveUnusedNodesPass()(model)
    store_once(model)
    return model


def _worth_folding(node: ir.Node) -> bool:
    """Not what would store half-precision weights as floats, nor one number many times."""
    if node.op_type == "Cast":
        return _constant_size(node.inputs[0]) <= SMALL
    if node.op_type in _REPEATING:
        shape = node.inputs[_REPEATING[node.op_type]]
        constant = None if shape is None else shape.const_value
        return constant is not None and int(np.prod(constant.numpy())) <= SMALL
    return node.op_type not in _NEVER_FOLDED


def _constant_size(value: ir.Value | None) -> int:
    constant = None if value is None else value.const_value
    return 0 if constant is None else constant.size


def _in_place(*changes: Callable[[ir.Model], object]) -> Edit:
    """One edit out of changes to the very model that they are given."""

    def edit(model: ir.Model) -> ir.Model:
        for change in changes:
            change(model)
        return model

    return edit


# Constants of nodes and of inner graphs become initializers of the main graph.
_lift_constants = _in_place(
    passes.RemoveInitializersFromInputsPass(),
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    passes.LiftSubgraphInitializersToMainGraphPass(),
)

EDITS: tuple[tuple[str, Edit], ...] = (
    ("functions inlined", _inline),
    ("operator set made newer", _modernise),
    ("constants turned into weights", _lift_constants),
    ("identities and dropout removed", _in_place(drop_identities)),
    ("constants folded", _fold),
    (
        "batch norms folded into convolutions",
        _in_place(RewritePass([fuse_batchnorm_into_conv_rule])),
    ),
    (
        "batch norms folded into transposed convolutions",
        _in_place(RewritePass([fuse_batchnorm_into_conv_transpose_rule])),
    ),
    ("batch norms folded into Gemm", _in_place(RewritePass([fuse_batchnorm_into_gemm_rule]))),
    ("batch norms folded into MatMul", _in_place(fold_product_norms)),
    (
        "equal weights merged",
        _in_place(passes.RemoveUnusedNodesPass(), store_once, strip_nodes, name_apart),
    ),
)
