"""Weights that became products: a node that reads such a weight becomes a chain of nodes.

The chain is written with the factors as plain initializers, each bound like a parameter of its
own. What then becomes of them (integers with steps, half precision) is up to `write_encodings`.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from lilliput.model.encodings import Dense, Encoding, LowRank, factor_name
from lilliput.runtime.onnx_bind import Binding, Bindings, Piece
from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_edit import Editor

_TWO_AXES = [1, 0]


def split_products(
    model: ir.Model, bindings: Bindings, *, encodings: Mapping[str, Encoding]
) -> tuple[Bindings, dict[str, Encoding], list[str]]:
    """Puts chains in the place of all nodes that read a weight which became a product.

    Args:
        model: The original's graph, which is changed.
        bindings: What it holds.
        encodings: Parameter -> what became of it.

    Returns:
        Bindings of the new graph; encodings, factors in the place of products; and warnings:
        products that this graph cannot hold become dense again.
    """
    editor = Editor(model.graph)
    found, folds = list(bindings.found), bindings.folds
    split, warnings = dict(encodings), []
    products = {name: e for name, e in encodings.items() if isinstance(e, LowRank)}
    for name, product in products.items():
        mine = [b for b in found if any(piece.parameter == name for piece in b.pieces)]
        obstacle = next(filter(None, (_obstacle(editor, b, product) for b in mine)), None)
        if obstacle or not mine:
            split[name] = Dense(product.decode())
            if obstacle:
                warnings.append(f"{name}: {obstacle}, so its factors are stored as their product")
            continue
        del split[name]
        names = [factor_name(name, place) for place in range(len(product.factors))]
        split |= dict(zip(names, product.factors, strict=True))
        found = [b for b in found if b not in mine]
        found += [part for binding in mine for part in _split(editor, binding, product)]
        folds = tuple(replace(f, parameter=names[-1]) if f.parameter == name else f for f in folds)
    return replace(bindings, found=tuple(found), folds=folds), split, warnings


def _obstacle(editor: Editor, binding: Binding, product: LowRank) -> str | None:
    """Why the nodes that read this initializer cannot become chains."""
    piece, kernel = binding.pieces[0], _has_kernel(product)
    if len(binding.pieces) > 1 or piece.slot is not None or piece.rows is not None:
        return "the ONNX graph holds it stacked or cut"
    if len(binding.shape) != (len(piece.shape) if kernel else 2):
        return "the ONNX graph holds it in another shape"
    for name, position in binding.uses:
        node = editor.nodes[name]
        if not (_convolves if kernel else _multiplies)(node, position):
            return f"the ONNX graph reads it with {node.op_type}"
    return None


def _has_kernel(product: LowRank) -> bool:
    return product.factors[0].decode().dim() > 2


def _convolves(node: ir.Node, position: int) -> bool:
    padded = node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    single = node.attributes.get_int("group", 1) == 1
    return node.op_type == "Conv" and position == 1 and padded and single


def _multiplies(node: ir.Node, position: int) -> bool:
    """Whether it reads a matrix in a way that a product of two can be read in."""
    if node.op_type == "Transpose":
        users = [(use.node, use.idx) for use in node.outputs[0].uses()]
        plain = not node.outputs[0].is_graph_output()
        return plain and all(u.op_type != "Transpose" and _multiplies(u, i) for u, i in users)
    if node.op_type == "Gather":
        return position == 0 and node.attributes.get_int("axis", 0) == 0
    if node.op_type == "Gemm":
        return position == 1 and not node.attributes.get_int("transA", 0)
    return node.op_type == "MatMul"


def _split(editor: Editor, binding: Binding, product: LowRank) -> list[Binding]:
    """The chain, and one binding per factor in the order of the product."""
    piece, kernel = binding.pieces[0], _has_kernel(product)
    turned = piece.transposed != product.transposed and not kernel
    parts = []
    for place, factor in enumerate(product.factors):
        shape = tuple(factor.decode().shape)
        name = factor_name(piece.parameter, place)
        side = _side(piece, product, place)
        parts.append(Piece(name, shape, transposed=turned, factor=side))
    before = array_of(editor.originals[binding.initializer])
    values = []
    for part, factor in zip(parts, product.factors, strict=True):
        array = factor.decode().float().numpy() * (1 if part.factor is None else part.factor)
        array = (array.T if turned else array).astype(before.dtype)
        values.append(editor.constant(f"{part.parameter}.product", array))
    for name, position in binding.uses:
        node = editor.nodes[name]
        if kernel:
            _convolve(editor, node, values)
        else:
            left, right = values if turned else reversed(values)
            _multiply(editor, node, position, left=left, right=right)
    return [
        Binding(value.name or "", array_of(value).shape, (part,), _uses(value))
        for part, value in zip(parts, values, strict=True)
    ]


def _side(piece: Piece, product: LowRank, place: int) -> np.ndarray | None:
    """What the exporter multiplied rows with goes to the last factor, columns to the first."""
    if piece.factor is None:
        return None
    factor = piece.factor.T if product.transposed else piece.factor
    last = factor.shape[0] > 1 or factor.size == 1
    return factor if place == (len(product.factors) - 1 if last else 0) else None


def _uses(value: ir.Value) -> tuple[tuple[str, int], ...]:
    return tuple((use.node.name or "", use.idx) for use in value.uses())


def _multiply(
    editor: Editor, node: ir.Node, position: int, *, left: ir.Value, right: ir.Value
) -> None:
    """Lets a node read ``left @ right``; of a product it stays the last one, with its bias."""
    if node.op_type == "Transpose":
        sides = [editor.node(node, "Transpose", [v], {"perm": _TWO_AXES}) for v in (right, left)]
        for use in list(node.outputs[0].uses()):
            _multiply(editor, use.node, use.idx, left=sides[0], right=sides[1])
        editor.drop_unread([node])
    elif node.op_type == "Gather":
        rows = editor.node(node, "Gather", [left, _input(node, 1)], {"axis": 0})
        editor.substitute(node, editor.node(node, "MatMul", [rows, right]))
    elif node.op_type == "Gemm":
        turned = node.attributes.get_int("transB", 0)
        first, then = (right, left) if turned else (left, right)
        source = editor.node(node, "Gemm", [_input(node, 0), first], {"transB": turned})
        node.replace_input_with(0, source)
        node.replace_input_with(1, then)
    elif position == 1:
        node.replace_input_with(0, editor.node(node, "MatMul", [_input(node, 0), left]))
        node.replace_input_with(1, right)
    else:
        node.replace_input_with(1, editor.node(node, "MatMul", [right, _input(node, 1)]))
        node.replace_input_with(0, left)


def _convolve(editor: Editor, node: ir.Node, factors: list[ir.Value]) -> None:
    """One convolution per factor; the node itself becomes the last, with its bias.

    Each axis of the kernel is walked by the factor that is longer than one there, or the first.
    """
    shapes = [array_of(factor).shape for factor in factors]
    axes = len(shapes[0]) - 2
    old = {name: node.attributes.get_ints(name) for name in ("strides", "pads", "dilations")}
    strides, dilations = (list(old[name] or [1] * axes) for name in ("strides", "dilations"))
    pads = list(old["pads"] or [0] * (2 * axes))
    walker = [
        next((place for place, shape in enumerate(shapes) if shape[2 + axis] > 1), 0)
        for axis in range(axes)
    ]
    source, channels = _input(node, 0), shapes[0][1]
    for place, (factor, shape) in enumerate(zip(factors, shapes, strict=True)):
        mine = [who == place for who in walker]
        attributes = {
            "kernel_shape": list(shape[2:]),
            "strides": [size if own else 1 for size, own in zip(strides, mine, strict=True)],
            "dilations": [size if own else 1 for size, own in zip(dilations, mine, strict=True)],
            "pads": [size if own else 0 for size, own in zip(pads, mine * 2, strict=True)],
            "group": channels // shape[1],
        }
        channels = shape[0]
        if place < len(factors) - 1:
            source = editor.node(node, "Conv", [source, factor], attributes)
            continue
        for name, value in attributes.items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)
        node.replace_input_with(0, source)
        node.replace_input_with(1, factor)


def _input(node: ir.Node, position: int) -> ir.Value:
    value = node.inputs[position]
    if value is None:
        raise TypeError(f"{node.name} has no input {position}")
    return value
