"""Weights of few bits in the graph: computed on as they are packed, or decoded when loaded.

MatMulNBits and GatherBlockQuantized are ONNX Runtime's own operators; OpenVINO reads both as well.
`accuracy_level` 1 keeps activations and products in fp32, so ONNX Runtime's default session
answers with the exact decoded weights. (DequantizeLinear in front of MatMul would be fused into
the same operator at level 4, with activations rounded to int8: 45 dB.) OpenVINO rounds them all
the same unless its execution mode is accuracy.

Where those operators do not apply, or are not wanted, codes are cast, shifted and multiplied by
standard operators, on constants: a runtime does that once, when it loads the file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lilliput.model.encodings import Encoding, Grouped
from lilliput.runtime.onnx_bind import Binding, Piece
from lilliput.runtime.onnx_edit import Editor, Use
from lilliput.tensor.halves import snapped
from lilliput.tensor.packing import pack_codes, packed_width

DOMAIN = "com.microsoft"
EXACT = 1  # accuracy_level: activations stay fp32
SMALLEST_GROUP = 16
_FLOAT = {"to": ir.DataType.FLOAT}
PRODUCT, LOOKUP = "MatMulNBits", "GatherBlockQuantized"


@dataclass(frozen=True)
class Stored:
    """Codes in the order of the matrix view, groups filled up: ``(codes - zeros) * steps``.

    Attributes:
        codes: (rows, groups, group) uint8.
        steps: (rows, groups) float32.
        zeros: (rows, groups) uint8; None for the middle code.
        width: Bits of a stored code: 2, 4 or 8.
        middle: The code that means zero where there are no zeros.
        columns: Columns that count; the rest of the last group fills up.
        column_steps: (columns,) or None.
        rows_first: Whether rows are the initializer's first axis.
        shape: Shape of the initializer.
        name: The parameter.
    """

    codes: np.ndarray
    steps: np.ndarray
    zeros: np.ndarray | None
    width: int
    middle: int
    columns: int
    column_steps: np.ndarray | None
    rows_first: bool
    shape: tuple[int, ...]
    name: str

    @property
    def group(self) -> int:
        """Columns of a group."""
        return int(self.codes.shape[2])

    @property
    def packable(self) -> bool:
        """Whether the packed operators take such groups and such a middle."""
        fits = self.group >= SMALLEST_GROUP and self.group & (self.group - 1) == 0
        return fits and (self.zeros is not None or self.middle == 2 ** (self.width - 1))


def store_groups(binding: Binding, encodings: Mapping[str, Encoding]) -> Stored | None:
    """The codes of an initializer that is one grouped parameter; None where it is not."""
    piece = binding.pieces[0]
    encoding = encodings.get(piece.parameter)
    if len(binding.pieces) > 1 or piece.slot is not None or not isinstance(encoding, Grouped):
        return None
    codes, steps = encoding.codes.numpy(), encoding.steps.numpy()
    zeros = None if encoding.zeros is None else encoding.zeros.numpy()
    if codes.shape[0] != encoding.shape[1 if encoding.transposed else 0]:
        return None
    factors = _factors(piece, encoding)
    if factors is None or (piece.rows is not None and encoding.transposed):
        return None
    steps = snapped(steps * factors[0])
    if piece.rows is not None:
        codes, steps = codes[piece.rows], steps[piece.rows]
        zeros = None if zeros is None else zeros[piece.rows]
    columns = factors[1]
    if encoding.column_steps is not None:
        columns = encoding.column_steps.numpy() * (1 if columns is None else columns)
    filled = np.pad(codes, ((0, 0), (0, -codes.shape[1] % encoding.group)))
    middle, width = 2 ** (encoding.bits - 1), packed_width(encoding.bits)
    if zeros is None and middle != 2 ** (width - 1):  # three bits in four: other middle
        filled, middle = filled + np.uint8(2 ** (width - 1) - middle), 2 ** (width - 1)
    return Stored(
        codes=filled.reshape(len(filled), -1, encoding.group),
        steps=steps,
        zeros=zeros,
        width=width,
        middle=middle,
        columns=codes.shape[1],
        column_steps=columns,
        rows_first=encoding.transposed == piece.transposed,
        shape=binding.shape,
        name=piece.parameter,
    )


def _factors(piece: Piece, encoding: Grouped) -> tuple[np.ndarray, np.ndarray | None] | None:
    """What the exporter multiplied rows, or columns, of the matrix view with; None if neither."""
    rows, columns = encoding.codes.shape
    if piece.factor is None:
        return np.ones((rows, 1), np.float32), None
    whole = np.broadcast_to(piece.factor, encoding.shape)
    matrix = whole.T if encoding.transposed else whole.reshape(rows, columns)
    if (matrix == matrix[:, :1]).all():
        return matrix[:, :1], None
    return (np.ones((rows, 1), np.float32), matrix[0]) if (matrix == matrix[:1]).all() else None


def write_groups(editor: Editor, binding: Binding, *, stored: Stored, packed: bool) -> None:
    """Lets all uses of an initializer read the codes.

    Args:
        editor: Of the graph.
        binding: The initializer and its uses.
        stored: What `store_groups` found.
        packed: Whether products and look-ups compute on packed codes where they can.
    """
    dtype = editor.originals[binding.initializer].dtype
    looked_up: list[ir.Node] = []
    products: list[ir.Node] = []
    rest: list[Use] = list(binding.uses)
    if packed and stored.packable and dtype == ir.DataType.FLOAT:
        looked_up = [n for n in _users(editor, binding.uses) if _looks_up(n, stored)]
        rest = [use for use in rest if editor.nodes[use[0]] not in looked_up]
        products, rest = _products(editor, rest, stored)
    if looked_up or products:
        editor.graph.opset_imports[DOMAIN] = 1
        turned = {n for n in _users(editor, binding.uses) if n.op_type == "Transpose"}
        _compute(editor, looked_up, products, stored)
        editor.drop_unread(turned)
    if rest:
        _decode(editor, rest, stored, dtype or ir.DataType.FLOAT)


def _users(editor: Editor, uses: Iterable[Use]) -> list[ir.Node]:
    return [editor.nodes[name] for name, _ in uses]


def _looks_up(node: ir.Node, stored: Stored) -> bool:
    rows = node.op_type == "Gather" and node.attributes.get_int("axis", 0) == 0
    whole = stored.columns == stored.codes.shape[1] * stored.group
    return rows and whole and stored.rows_first and len(stored.shape) == 2


def _products(editor: Editor, uses: list[Use], stored: Stored) -> tuple[list[ir.Node], list[Use]]:
    """Products that sum over the columns, seen through transpositions; and the other uses."""
    found: list[ir.Node] = []
    rest: list[Use] = []
    for name, position in uses:
        node = editor.nodes[name]
        turned = node.op_type == "Transpose"
        readers = [(use.node, use.idx) for use in node.outputs[0].uses()] if turned else []
        readers = readers or [(node, position)]
        if all(_sums_columns(user, at, turned, stored) for user, at in readers):
            found += [user for user, _ in readers]
        else:
            rest.append((name, position))
    return found, rest


def _sums_columns(node: ir.Node, position: int, turned: bool, stored: Stored) -> bool:
    if position != 1 or len(stored.shape) != 2:
        return False
    if node.op_type == "Gemm":
        plain = not node.attributes.get_int("transA", 0)
        plain = plain and node.attributes.get_float("alpha", 1.0) == 1.0
        plain = plain and node.attributes.get_float("beta", 1.0) == 1.0
        second = bool(node.attributes.get_int("transB", 0))
    else:
        plain, second = node.op_type == "MatMul", False
    return plain and (turned != second) == stored.rows_first


def _compute(
    editor: Editor, looked_up: list[ir.Node], products: list[ir.Node], stored: Stored
) -> None:
    """One initializer for all; a table that products share is looked up by standard operators.

    `LOOKUP` wants its table as a matrix, `PRODUCT` its weight in groups, and OpenVINO takes neither
    through a Reshape, nor a table with zeros that fill no whole number of bytes.
    """
    whole = stored.zeros is None or stored.steps.shape[1] * stored.width % 8 == 0
    packed = pack_codes(stored.codes, stored.width)  # (rows, groups, bytes of a group)
    apart = bool(products) or not whole
    table = packed if apart else packed.reshape(len(packed), -1)
    codes = editor.constant(f"{stored.name}.codes", table)
    for node in products:
        _multiply(editor, node, codes, stored)
    for node in looked_up:
        (_look_up_bits if apart else _look_up)(editor, node, codes, stored)


def _sides(editor: Editor, stored: Stored) -> list[ir.Value]:
    """Steps, and zeros where they are stored."""
    steps = editor.constant(f"{stored.name}.steps", stored.steps)
    if stored.zeros is None:
        return [steps]
    return [steps, editor.constant(f"{stored.name}.zeros", pack_codes(stored.zeros, stored.width))]


def _multiply(editor: Editor, node: ir.Node, codes: ir.Value, stored: Stored) -> None:
    """A product on packed codes; column steps move to its other factor."""
    factor = node.inputs[0]
    if factor is None:
        return
    factor = _columns_scaled(editor, node, factor, stored)
    attributes = {
        "K": stored.columns,
        "N": len(stored.codes),
        "bits": stored.width,
        "block_size": stored.group,
        "accuracy_level": EXACT,
    }
    inputs = [factor, codes, *_sides(editor, stored)]
    value = editor.node(node, PRODUCT, inputs, attributes, domain=DOMAIN)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        value = editor.node(node, "Add", [value, node.inputs[2]])
    editor.substitute(node, value)


def _look_up(editor: Editor, node: ir.Node, codes: ir.Value, stored: Stored) -> None:
    """Rows of a table, decoded as they are looked up."""
    indices = node.inputs[1]
    if indices is None:
        return
    attributes = {
        "bits": stored.width,
        "block_size": stored.group,
        "gather_axis": 0,
        "quantize_axis": 1,
    }
    steps, *zeros = _sides(editor, stored)
    inputs = [codes, indices, steps, *zeros]
    value = editor.node(node, LOOKUP, inputs, attributes, domain=DOMAIN)
    editor.substitute(node, _columns_scaled(editor, node, value, stored))


def _look_up_bits(editor: Editor, node: ir.Node, codes: ir.Value, stored: Stored) -> None:
    """The same from a weight in groups: bytes of the rows asked for, taken apart.

    In floats, which hold a byte exactly: OpenVINO shifts bytes wrongly.
    """
    indices = node.inputs[1]
    if indices is None:
        return

    def rows(value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        some = editor.node(node, "Gather", [value, indices], {"axis": 0})
        return _reshaped(editor, node, some, (-1, *shape))

    _, groups, size = stored.codes.shape
    levels = 2.0**stored.width
    each = np.arange(8 // stored.width, dtype=np.float32)
    value = editor.node(node, "Cast", [rows(codes, (groups, size * stored.width // 8, 1))], _FLOAT)
    value = editor.node(node, "Mul", [value, editor.constant("bits.steps", levels**-each)])
    value = editor.node(node, "Floor", [value])  # the code, and those before it in the byte
    above = editor.node(
        node, "Mul", [value, editor.constant("down.steps", np.array(1 / levels, np.float32))]
    )
    above = editor.node(node, "Floor", [above])
    above = editor.node(
        node, "Mul", [above, editor.constant("up.steps", np.array(levels, np.float32))]
    )
    value = _reshaped(editor, node, editor.node(node, "Sub", [value, above]), (-1, groups, size))
    zeros = editor.constant("middle.zeros", np.array(stored.middle, np.float32))
    if stored.zeros is not None:
        zeros = rows(editor.constant(f"{stored.name}.row.zeros", stored.zeros), (groups, 1))
        zeros = editor.node(node, "Cast", [zeros], _FLOAT)
    value = editor.node(node, "Sub", [value, zeros])
    steps = rows(editor.constant(f"{stored.name}.steps", stored.steps), (groups, 1))
    value = editor.node(node, "Mul", [value, steps])
    wide = editor.constant("columns.shape", np.array([stored.columns], np.int64))
    asked = editor.node(node, "Shape", [indices])
    shape = editor.node(node, "Concat", [asked, wide], {"axis": 0})
    value = _columns_scaled(editor, node, editor.node(node, "Reshape", [value, shape]), stored)
    editor.substitute(node, value)


def _columns_scaled(editor: Editor, before: ir.Node, value: ir.Value, stored: Stored) -> ir.Value:
    """Times column steps, along the last axis."""
    if stored.column_steps is None:
        return value
    columns = editor.constant(f"{stored.name}.columns", stored.column_steps)
    return editor.node(before, "Mul", [value, columns])


def _decode(editor: Editor, uses: list[Use], stored: Stored, dtype: ir.DataType) -> None:
    """The whole weight in the initializer's shape, by standard operators on constants."""
    before = editor.first(uses)
    rows, groups, group = stored.codes.shape
    numbers = [editor.constant(f"{stored.name}.codes", stored.codes)]
    middle = np.array(stored.middle, np.float32)
    if stored.zeros is not None:
        numbers.append(editor.constant(f"{stored.name}.zeros", stored.zeros[..., None]))
    cast = [editor.node(before, "Cast", [one], _FLOAT) for one in numbers]
    zeros = cast[1] if len(cast) > 1 else editor.constant("middle.zeros", middle)
    value = editor.node(before, "Sub", [cast[0], zeros])
    steps = editor.constant(f"{stored.name}.steps", stored.steps[..., None])
    value = editor.node(before, "Mul", [value, steps])
    value = _reshaped(editor, before, value, (rows, groups * group))
    if stored.columns < groups * group:
        ends = [np.array([number], np.int64) for number in (0, stored.columns, 1)]
        inputs = [value, *(editor.constant("slice", end) for end in ends)]
        value = editor.node(before, "Slice", inputs)
    value = _columns_scaled(editor, before, value, stored)
    if not stored.rows_first:
        value = editor.node(before, "Transpose", [value], {"perm": [1, 0]})
    value = _reshaped(editor, before, value, stored.shape)
    if dtype != ir.DataType.FLOAT:
        value = editor.node(before, "Cast", [value], {"to": dtype})
    editor.connect(uses, value)


def _reshaped(editor: Editor, before: ir.Node, value: ir.Value, shape: tuple[int, ...]) -> ir.Value:
    wanted = editor.constant("weight.shape", np.array(shape, np.int64))
    return editor.node(before, "Reshape", [value, wanted])
