"""Products and convolutions on integers: uint8 activations times int8 weights.

Rounding stands in the graph as QuantizeLinear -> DequantizeLinear, which ONNX Runtime and OpenVINO
both turn into their integer kernels; activations are uint8, since int8 ones are many times slower
in ONNX Runtime on x86. A convolution runs on integers only where its result is rounded too, so
what convolutions hand on is rounded wherever it goes. Rounding by each call's extremes has no such
form: it is written with DynamicQuantizeLinear and MatMulInteger.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from lilliput.model.encodings import Inputs
from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_edit import Editor
from lilliput.runtime.onnx_floats import keep_float
from lilliput.runtime.onnx_layout import Stored
from lilliput.runtime.onnx_reads import handed_on

LARGEST_SUM = 2**30  # of a bias in steps: half of what 32 bits hold


@dataclass
class Integers:
    """Writes integer kernels into one graph; what two of them read is rounded once."""

    editor: Editor
    rounded: dict[tuple[Hashable, ...], tuple[ir.Value, ...]] = field(default_factory=dict)
    grids: dict[ir.Value, Inputs] = field(default_factory=dict)
    convolutions: list[tuple[ir.Node, Stored]] = field(default_factory=list)
    products: list[tuple[ir.Node, Stored]] = field(default_factory=list)

    def product(self, node: ir.Node, stored: Stored) -> None:
        """MatMul or Gemm with integers as its second factor, once `finish` is called.

        Args:
            node: Its second factor is the weight.
            stored: The integers, (in, out) or for a turned Gemm (out, in), their steps, and how the
                first factor is rounded.
        """
        self.products.append((node, _positive(stored)))

    def _product(self, node: ir.Node, stored: Stored) -> None:
        source, inputs = node.inputs[0], stored.inputs
        if source is None or inputs is None:
            return
        if stored.outliers is not None:
            node = self._beside_outliers(node, source, stored)
        scaled = self._scaled(node, source, stored)
        if inputs.step is None:
            self._dynamic(node, scaled, stored)
            return
        axis = 0 if node.attributes.get_int("transB", 0) else 1
        node.replace_input_with(0, self._through(node, scaled, inputs))
        node.replace_input_with(1, self._weight(node, stored, axis))

    def convolution(self, node: ir.Node, stored: Stored) -> None:
        """Conv with integers as its kernel, once `finish` is called, which rounds its result too.

        Args:
            node: Its second input is the weight.
            stored: The integers; where the layer before multiplies what it hands on with channels,
                those of the weight as it was.
        """
        self.convolutions.append((node, _positive(_of_multiplied(stored))))

    def finish(self) -> None:
        """Rounds what convolutions hand on, and writes the products; biases must be in place."""
        self._absorb()
        self.convolutions = [(node, _with_room(node, it)) for node, it in self.convolutions]
        for node, stored in self.convolutions:
            self._convolution(node, stored)
        for node, stored in self.convolutions:
            value = handed_on(node.outputs[0])
            if value not in self.grids and stored.results is not None:
                self.grids[value] = self._ahead(value) or stored.results
            self._round_bias(node, stored)
        for value, inputs in self.grids.items():
            self._everywhere(value, inputs)
        for node, stored in self.products:
            self._product(node, stored)
        if self.rounded:
            keep_float(self.editor)

    def _absorb(self) -> None:
        """The channels that a convolution wants multiplied are so by the one before, if it can."""
        makers = {handed_on(n.outputs[0]): place for place, (n, _) in enumerate(self.convolutions)}
        for node, stored in list(self.convolutions):
            source, channels = node.inputs[0], stored.channels
            if source is None or channels is None:
                continue
            place = makers.get(source)
            alone = len(source.uses()) == 1 and not source.is_graph_output()
            if place is None or not alone or not _has_fixed_bias(self.convolutions[place][0]):
                laid = channels.reshape(-1, *[1] * (stored.codes.ndim - 2))
                factor = self.editor.constant(f"{stored.name}.channels", laid)
                node.replace_input_with(0, self.editor.node(node, "Mul", [source, factor]))
                continue
            before, kept = self.convolutions[place]
            rows = kept.row_steps * channels.reshape(kept.row_steps.shape)
            self.convolutions[place] = before, replace(kept, row_steps=rows)
            if len(before.inputs) > 2 and before.inputs[2] is not None:
                bias = array_of(before.inputs[2]) * channels
                before.replace_input_with(2, self.editor.constant(f"{kept.name}.bias", bias))

    def _convolution(self, node: ir.Node, stored: Stored) -> None:
        source, inputs = node.inputs[0], stored.inputs
        if source is None or inputs is None:
            return
        node.replace_input_with(0, self._through(node, source, inputs))
        node.replace_input_with(1, self._weight(node, stored, 0))
        self.grids[source] = inputs

    def _ahead(self, value: ir.Value) -> Inputs | None:
        """The grid of what a maximum pool makes of the value: it takes one of its numbers."""
        uses = value.uses()
        pools = [use.node for use in uses if use.node.op_type == "MaxPool"]
        return self.grids.get(pools[0].outputs[0]) if len(uses) == len(pools) == 1 else None

    def _everywhere(self, value: ir.Value, inputs: Inputs) -> None:
        """Every node that reads the value reads it rounded."""
        readers = [use for use in value.uses() if use.node.op_type != "QuantizeLinear"]
        if not readers:
            return
        after = value.producer()
        first = next(iter(self.editor.graph)) if after is None else _next(self.editor, after)
        through = self._through(first, value, inputs)
        for use in readers:
            use.node.replace_input_with(use.idx, through)

    def _through(self, before: ir.Node, value: ir.Value, inputs: Inputs) -> ir.Value:
        """The value rounded, as float."""
        key = (value, inputs)
        if key not in self.rounded:
            name = value.name or "value"
            step = self.editor.constant(f"{name}.step", np.array(inputs.step, np.float32))
            zero = self.editor.constant(f"{name}.zero", np.array(inputs.zero, np.uint8))
            codes = self.editor.node(before, "QuantizeLinear", [value, step, zero])
            self.rounded[key] = (self.editor.node(before, "DequantizeLinear", [codes, step, zero]),)
        return self.rounded[key][0]

    def _scaled(self, node: ir.Node, source: ir.Value, stored: Stored) -> ir.Value:
        """The first factor times the weight's column steps."""
        if stored.column_steps is None:
            return source
        columns = stored.column_steps.reshape(-1)
        key = (source, columns.tobytes())
        if key not in self.rounded:
            factor = self.editor.constant(f"{stored.name}.columns", columns)
            self.rounded[key] = (self.editor.node(node, "Mul", [source, factor]),)
        return self.rounded[key][0]

    def _beside_outliers(self, node: ir.Node, source: ir.Value, stored: Stored) -> ir.Node:
        """Adds the product of the few float columns; returns the node that does the others."""
        edit, outliers = self.editor, stored.outliers
        if outliers is None:
            return node
        places = outliers.places.numpy()
        key = (source, places.tobytes())
        if key not in self.rounded:
            which = edit.constant(f"{stored.name}.places", places)
            self.rounded[key] = (edit.node(node, "Gather", [source, which], {"axis": -1}),)
        weight = edit.constant(f"{stored.name}.outliers", outliers.weight.numpy().T)
        part = edit.node(node, "MatMul", [self.rounded[key][0], weight])
        factors = [value for value in node.inputs if value is not None]
        rest = edit.node(node, node.op_type, factors, node.attributes)
        edit.substitute(node, edit.node(node, "Add", [rest, part]))
        return _maker(rest)

    def _weight(self, node: ir.Node, stored: Stored, axis: int) -> ir.Value:
        codes = self.editor.constant(f"{stored.name}.codes", stored.codes)
        steps = self.editor.constant(f"{stored.name}.steps", stored.row_steps.reshape(-1))
        return self.editor.node(node, "DequantizeLinear", [codes, steps], {"axis": axis})

    def _dynamic(self, node: ir.Node, value: ir.Value, stored: Stored) -> None:
        """Rounds by the extremes of each call: the form that ONNX Runtime fuses into one kernel."""
        edit, key = self.editor, (value,)
        if key not in self.rounded:
            self.rounded[key] = edit.outputs(node, "DynamicQuantizeLinear", inputs=[value], count=3)
        rounded, step, zero = self.rounded[key]
        turned = bool(node.attributes.get_int("transB", 0))
        laid = stored.codes.T if turned else stored.codes
        codes = edit.constant(f"{stored.name}.codes", laid)
        steps = edit.constant(f"{stored.name}.steps", stored.row_steps.reshape(-1))
        sums = edit.node(node, "MatMulInteger", [rounded, codes, zero])
        sums = edit.node(node, "Cast", [sums], {"to": ir.DataType.FLOAT})
        product = edit.node(node, "Mul", [sums, edit.node(node, "Mul", [step, steps])])
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            product = edit.node(node, "Add", [product, bias])
        edit.substitute(node, product)

    def _round_bias(self, node: ir.Node, stored: Stored) -> None:
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or not bias.is_initializer() or stored.inputs is None:
            return
        steps = stored.row_steps.reshape(-1).astype(np.float64) * (stored.inputs.step or 1.0)
        codes = np.rint(array_of(bias).astype(np.float64) / steps)
        if np.abs(codes).max(initial=0) > 2**31 - 1:
            return
        scale = self.editor.constant(f"{stored.name}.sums.steps", steps.astype(np.float32))
        whole = self.editor.constant(f"{stored.name}.sums", codes.astype(np.int32))
        value = self.editor.node(node, "DequantizeLinear", [whole, scale], {"axis": 0})
        node.replace_input_with(2, value)


def _maker(value: ir.Value) -> ir.Node:
    """The node that a value comes from."""
    node = value.producer()
    if node is None:
        raise TypeError(f"{value.name} comes from no node")
    return node


def is_plain(node: ir.Node) -> bool:
    """Whether a node is a matrix product that `Integers.product` can take."""
    attributes = node.attributes
    if node.op_type == "Gemm":
        factors = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
        return factors == (1.0, 1.0) and not attributes.get_int("transA", 0)
    return node.op_type == "MatMul"


def _has_fixed_bias(node: ir.Node) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or bias.is_initializer()


def _of_multiplied(stored: Stored) -> Stored:
    """The integers for channels that were multiplied: the columns' factors, or the rows', go."""
    if stored.channels is None:
        return stored
    if stored.column_steps is not None:
        return replace(stored, column_steps=None)
    return replace(
        stored,
        row_steps=stored.row_steps / stored.channels.reshape(-1, *[1] * (stored.codes.ndim - 1)),
    )


def _positive(stored: Stored) -> Stored:
    """The same with positive steps, which a folded BatchNorm may have turned round or to zero."""
    steps = stored.row_steps
    if np.all(steps > 0):
        return stored
    codes = (stored.codes * np.sign(steps)).astype(np.int8)
    return replace(stored, codes=codes, row_steps=np.where(steps == 0, 1, np.abs(steps)))


def _with_room(node: ir.Node, stored: Stored) -> Stored:
    """The same with steps on which the bias is a 32-bit sum.

    A dead channel has a bias and next to no weight: on steps so small ONNX Runtime would cut its
    bias off, or turn it round.
    """
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or not bias.is_initializer() or stored.inputs is None:
        return stored
    steps, step = stored.row_steps, stored.inputs.step or 1.0
    least = np.abs(array_of(bias).astype(np.float64)).reshape(steps.shape) / (LARGEST_SUM * step)
    wide = np.maximum(steps, least.astype(steps.dtype))
    if np.array_equal(wide, steps):
        return stored
    codes = np.rint(stored.codes * (steps / wide)).astype(np.int8)
    return replace(stored, codes=codes, row_steps=wide)


def _next(editor: Editor, node: ir.Node) -> ir.Node:
    """The node behind another in the graph's order."""
    nodes = list(editor.graph)
    return nodes[min(nodes.index(node) + 1, len(nodes) - 1)]
