"""Exact integer surgery: the compressed weights in the original's graph.

ONNX Runtime fuses DequantizeLinear(int8) -> MatMul into a product with int8 activations (45 dB
per layer), keeps it in front of a Conv at every call (2.4 times slower: no layout optimisation),
but computes Cast -> Mul on constants once, when it loads the file: exact and as fast as the
original. So weights of products are cast and multiplied where fp32 arithmetic is meant, and
dequantized where the integer kernels shall serve; rows that are looked up are always dequantized.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from lilliput.model.encodings import Codebook, Encoding, Grid, Grouped
from lilliput.runtime.onnx_apart import set_apart
from lilliput.runtime.onnx_bind import Binding, Bindings
from lilliput.runtime.onnx_clean import array_of, save, store_once
from lilliput.runtime.onnx_edit import Editor, Use
from lilliput.runtime.onnx_factors import split_products
from lilliput.runtime.onnx_groups import store_groups, write_groups
from lilliput.runtime.onnx_int8 import Integers, is_plain
from lilliput.runtime.onnx_layout import Stored, decoded, store_float, store_grid

Arithmetic = Literal["float32", "int8", "fixed"]
CODES_SUFFIX = ".codes"  # of initializers of integers
STEP_SUFFIXES = (
    ".rows",
    ".columns",
    ".steps",
    ".values",
    ".zeros",
    ".step",
    ".zero",
    ".places",
    ".outliers",  # counted as the codes whose place they take
)  # of initializers that scale integer codes
_PRODUCTS = frozenset({"MatMul", "Gemm"})


def write_encodings(
    bindings: Bindings,
    encodings: Mapping[str, Encoding],
    path: Path,
    *,
    arithmetic: Arithmetic = "float32",
) -> list[str]:
    """Writes the compressed model: the original's graph with encoded weights.

    Args:
        bindings: What `bind` found in the original's file.
        encodings: Parameter -> what became of it: sites, and `Dense` for biases and norms with new
            values. Parameters not named keep their values.
        path: Where to write.
        arithmetic: ``float32``: the graph computes in fp32 with the exact dequantized weights in
            the runtime's default session, as fast as the original. ``int8``: matrix products are
            left to the runtime's integer kernels, which also round the activations. ``fixed``: as
            ``float32``; `lilliput.runtime.onnx_fixed` makes integers of the whole graph.

    Returns:
        Warnings, one line each: encodings that could not be put into the file.

    Raises:
        OutputError: The file cannot be written.
    """
    model = ir.load(bindings.original.path)
    bindings, encodings, warnings = split_products(model, bindings, encodings=encodings)
    editor = Editor(model.graph)
    integers = Integers(editor)
    values = {name: decoded(encoding) for name, encoding in encodings.items()}
    for fold in bindings.folds:
        if any(name in values for name in fold.names):
            array = fold.refold(values).astype(fold.bias.dtype)
            editor.connect([fold.use], editor.constant(f"{fold.parameter}.bias", array))
    for binding in refolded(bindings, values):
        names = [piece.parameter for piece in binding.pieces]
        if not any(name in values for name in names):
            continue
        grouped = store_groups(binding, encodings)
        if grouped is not None:
            packed = _computes_packed(encodings[names[0]])
            write_groups(editor, binding, stored=grouped, packed=packed)
            continue
        stored = store_grid(binding, encodings)
        if stored is not None:
            rest = _write_rounded(integers, binding, stored)
            warnings += _kept_float(editor, stored, rest)
            if stored.outliers is None or not rest:
                _write_integers(editor, replace(binding, uses=rest), stored, arithmetic)
                continue
            binding = replace(binding, uses=rest)
        if any(isinstance(encodings.get(name), Grid | Grouped | Codebook) for name in names):
            warnings.append(f"{', '.join(names)}: integers do not fit, stored as float")
        array = store_float(binding, values, array_of(editor.originals[binding.initializer]))
        editor.connect(binding.uses, editor.constant(names[0], array))
    integers.finish()
    set_apart(model, editor)
    store_once(model)
    save(model, path)
    return warnings + _left_out(bindings, encodings)


def _computes_packed(encoding: Encoding) -> bool:
    return isinstance(encoding, Grouped) and encoding.packed


def refolded(bindings: Bindings, values: dict[str, np.ndarray]) -> Iterator[Binding]:
    """All bindings, factors multiplied by what new BatchNorm weights make of them.

    A layer whose BatchNorm has a new weight but which keeps its own is added to `values`.
    """
    folds = {fold.parameter: fold for fold in bindings.folds if fold.gamma in values}
    for binding in bindings.found:
        piece = binding.pieces[0]
        fold = folds.get(piece.parameter)
        if fold is None or piece.factor is None:
            yield binding
            continue
        if piece.parameter not in values:
            values[piece.parameter] = fold.weight
        factor = piece.factor * fold.ratio(values).reshape(piece.factor.shape)
        yield replace(binding, pieces=(replace(piece, factor=factor),))


def _left_out(bindings: Bindings, encodings: Mapping[str, Encoding]) -> list[str]:
    warnings = [
        f"{name}: not found in the ONNX graph, stays float in the artifact"
        for name in bindings.missing
        if name in encodings
    ]
    known = {piece.parameter for binding in bindings.found for piece in binding.pieces}
    known |= {*bindings.missing, *bindings.absent, *bindings.replaceable}
    return warnings + [
        f"{name}: not in the ONNX graph, its new value is not in the artifact"
        for name in encodings
        if name not in known
    ]


def _write_rounded(integers: Integers, binding: Binding, stored: Stored) -> tuple[Use, ...]:
    """Integer kernels where the activations are rounded; returns the uses that have none."""
    if stored.inputs is None or stored.codes.dtype != np.int8:
        return binding.uses
    rest = []
    for use in binding.uses:
        node, position = integers.editor.nodes[use[0]], use[1]
        plain = stored.column_steps is None or stored.channels is not None
        if node.op_type == "Conv" and position == 1 and plain:
            integers.convolution(node, stored)
        elif is_plain(node) and _is_product(node, position, stored):
            integers.product(node, stored)
        else:
            rest.append(use)
    return tuple(rest)


def _kept_float(editor: Editor, stored: Stored, rest: Iterable[Use]) -> list[str]:
    """What the user should know of uses whose inputs were to be rounded and are not."""
    readers = sorted({editor.nodes[use[0]].op_type for use in rest})
    if stored.inputs is None or not readers:
        return []
    return [
        f"{stored.name}: its inputs stay float: {', '.join(readers)} has no integer kernel for it"
    ]


def _write_integers(
    editor: Editor, binding: Binding, stored: Stored, arithmetic: Arithmetic
) -> None:
    """One initializer of integers for all uses; each use gets the form that serves it best."""
    if not binding.uses:
        return
    codes = editor.constant(f"{stored.name}.codes", stored.codes)
    original = editor.originals[binding.initializer]
    dtype = original.dtype or ir.DataType.FLOAT
    integer = arithmetic == "int8" and stored.codes.dtype == np.int8
    integer = integer and dtype == ir.DataType.FLOAT
    gathered = [use for use in binding.uses if _looks_up_rows(editor.nodes[use[0]], use[1])]
    multiplied = [
        (name, position)
        for name, position in binding.uses
        if integer and _is_product(editor.nodes[name], position, stored)
    ]
    rest = [use for use in binding.uses if use not in gathered and use not in multiplied]
    if multiplied:
        _dequantize(editor, multiplied, codes, stored)
    if rest:
        before = editor.first(rest)
        weight = _levels(editor, before, codes, stored)
        weight = _scale(editor, before, weight, stored)
        editor.connect(rest, _convert(editor, before, weight, dtype))
    for name, _ in gathered:
        _gather(editor, editor.nodes[name], codes, stored, dtype)


def _levels(editor: Editor, before: ir.Node, codes: ir.Value, stored: Stored) -> ir.Value:
    """Codes as numbers: themselves, or the shared values that they are indices of."""
    if stored.values is None:
        return editor.node(before, "Cast", [codes], {"to": ir.DataType.FLOAT})
    index = editor.node(before, "Cast", [codes], {"to": ir.DataType.INT32})
    values = editor.constant(f"{stored.name}.values", stored.values)
    return editor.node(before, "Gather", [values, index], {"axis": 0})


def _looks_up_rows(node: ir.Node, position: int) -> bool:
    return node.op_type == "Gather" and position == 0 and node.attributes.get_int("axis", 0) == 0


def _is_product(node: ir.Node, position: int, stored: Stored) -> bool:
    """Whether the weight, turned or not, is the second factor of products over its columns only."""
    turned = node.op_type == "Transpose"
    uses = [(use.node, use.idx) for use in node.outputs[0].uses()] if turned else [(node, position)]
    if not all(user.op_type in _PRODUCTS and index == 1 for user, index in uses):
        return False
    summed = {turned != bool(user.attributes.get_int("transB", 0)) for user, _ in uses}
    return stored.row_steps.ndim == 2 and all(
        stored.row_steps.shape[int(axis)] == 1 for axis in summed
    )


def _convert(editor: Editor, before: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    known: ir.DataType = value.dtype or ir.DataType.FLOAT
    if known == dtype:
        return value
    return editor.node(before, "Cast", [value], {"to": dtype})


def _scale(
    editor: Editor,
    before: ir.Node,
    value: ir.Value,
    stored: Stored,
    indices: ir.Value | None = None,
) -> ir.Value:
    """Times row steps, then times column steps: the order of `Grid.decode`."""
    for suffix, steps in ((".rows", stored.row_steps), (".columns", stored.column_steps)):
        if steps is None:
            continue
        factor = editor.constant(stored.name + suffix, steps)
        if indices is not None and steps.shape[0] != 1:
            factor = editor.node(before, "Gather", [factor, indices], {"axis": 0})
        value = editor.node(before, "Mul", [value, factor])
    return value


def _gather(
    editor: Editor, node: ir.Node, codes: ir.Value, stored: Stored, dtype: ir.DataType
) -> None:
    """Looks up codes and steps of the rows asked for and dequantizes only those."""
    indices = node.inputs[1]
    if indices is None:
        return
    rows = editor.node(node, "Gather", [codes, indices], {"axis": 0})
    if stored.codes.dtype == np.int8:
        one = editor.constant("one.steps", np.array(1, np.float32))
        value = editor.node(node, "DequantizeLinear", [rows, one])
    else:  # DequantizeLinear takes int16 from opset 21 on only
        value = _levels(editor, node, rows, stored)
    value = _scale(editor, node, value, stored, indices)
    editor.substitute(node, _convert(editor, node, value, dtype))


def _dequantize(editor: Editor, uses: Iterable[Use], codes: ir.Value, stored: Stored) -> None:
    """DequantizeLinear; column steps move to the other factor of the product."""
    uses = list(uses)
    axes = [axis for axis, size in enumerate(stored.row_steps.shape) if size != 1]
    steps = stored.row_steps.reshape(-1 if axes else ())
    scale = editor.constant(f"{stored.name}.steps", steps)
    attributes = {"axis": axes[0]} if axes else {}
    weight = editor.node(editor.first(uses), "DequantizeLinear", [codes, scale], attributes)
    products = _products(editor, uses)
    editor.connect(uses, weight)
    if stored.column_steps is None:
        return
    columns = editor.constant(f"{stored.name}.columns", stored.column_steps.reshape(-1))
    for node in products:
        factor = node.inputs[0]
        if factor is not None:
            node.replace_input_with(0, editor.node(node, "Mul", [factor, columns]))


def _products(editor: Editor, uses: Iterable[Use]) -> list[ir.Node]:
    """The matrix products behind these uses, seen through transpositions."""
    found = []
    for name, _ in uses:
        node = editor.nodes[name]
        turned = node.op_type == "Transpose"
        found += [use.node for use in node.outputs[0].uses()] if turned else [node]
    return found
