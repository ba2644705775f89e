"""Exact integer surgery: the compressed weights in the original's graph."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
from torch import Tensor

from lilliput.model.encodings import Encoding, Grid
from lilliput.runtime.onnx_bind import Binding, Bindings
from lilliput.runtime.onnx_clean import array_of, save, store_once
from lilliput.runtime.onnx_layout import Stored, decoded, store_float, store_grid

Arithmetic = Literal["float32", "int8"]
Form = Literal["folded", "dequantize"]
_INT8_OPERATORS = frozenset({"MatMul", "Gemm"})


def write_encodings(
    original: Path,
    bindings: Bindings,
    encodings: Mapping[str, Encoding],
    floats: Mapping[str, Tensor],
    path: Path,
    *,
    arithmetic: Arithmetic = "float32",
) -> list[str]:
    """Writes the compressed model: the original's graph with encoded weights.

    Args:
        original: File that `export_original` wrote.
        bindings: What `bind` found in it.
        encodings: Site -> what became of it. Sites not named keep their weights.
        floats: Further parameters with new values (biases, norms).
        path: Where to write.
        arithmetic: ``float32``: the graph computes in fp32 with the exact dequantized weights in
            the runtime's default session, as fast as the original. ``int8``: matrix products are
            left to the runtime's integer kernels, which also round the activations.

    Returns:
        Warnings, one line each: encodings and floats that could not be put into the file.

    Raises:
        OutputError: The file cannot be written.
    """
    model = ir.load(original)
    writer = _Writer(model.graph, arithmetic)
    values = {name: decoded(encoding) for name, encoding in encodings.items()}
    values |= {name: value.detach().cpu().float().numpy() for name, value in floats.items()}
    for binding in bindings.found:
        writer.write(binding, encodings, values)
    store_once(model)
    save(model, path)
    return [*writer.warnings, *_left_out(bindings, encodings, values)]


def _left_out(
    bindings: Bindings, encodings: Mapping[str, Encoding], values: Mapping[str, np.ndarray]
) -> list[str]:
    warnings = [
        f"{name}: not found in the ONNX graph, stays float in the artifact"
        for name in bindings.missing
        if name in encodings
    ]
    known = {piece.parameter for binding in bindings.found for piece in binding.pieces}
    known |= set(bindings.missing) | set(bindings.absent)
    warnings += [
        f"{name}: not in the ONNX graph, its new value is not in the artifact"
        for name in values
        if name not in known
    ]
    return warnings


@dataclass
class _Writer:
    """Replaces what nodes read, one binding at a time."""

    graph: ir.Graph
    arithmetic: Arithmetic

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in self.graph}
        self.initializers = dict(self.graph.initializers)
        self.warnings: list[str] = []

    def write(
        self,
        binding: Binding,
        encodings: Mapping[str, Encoding],
        values: Mapping[str, np.ndarray],
    ) -> None:
        """Puts the new values of one binding's parameters in the place of the old ones."""
        names = [piece.parameter for piece in binding.pieces]
        if not any(name in values for name in names):
            return
        stored = store_grid(binding, encodings)
        if stored is not None:
            self._integers(binding, stored)
            return
        if any(isinstance(encodings.get(name), Grid) for name in names):
            self.warnings.append(f"{', '.join(names)}: integers do not fit, stored as float")
        before = array_of(self.initializers[binding.initializer])
        array = store_float(binding, values, before)
        self._replace(binding.uses, self._constant(names[0], array))

    def _integers(self, binding: Binding, stored: Stored) -> None:
        codes = self._constant(f"{stored.name}.codes", stored.codes)
        gathers = [use for use in binding.uses if self._gathers(use, stored)]
        for use in gathers:
            self._gather(self.nodes[use[0]], codes, stored)
        rest = [use for use in binding.uses if use not in gathers]
        by_form: dict[Form, list[tuple[str, int]]] = {}
        for use in rest:
            by_form.setdefault(self._form(use, stored), []).append(use)
        for form, uses in by_form.items():
            first = min((self.nodes[name] for name, _ in uses), key=self._position)
            if form == "folded":
                weight = self._folded(first, codes, stored)
                self._replace(uses, weight)
            else:
                self._dequantized(uses, codes, stored)

    def _position(self, node: ir.Node) -> int:
        return next(index for index, other in enumerate(self.graph) if other is node)

    def _gathers(self, use: tuple[str, int], stored: Stored) -> bool:
        """Whether a use looks rows up in the table (the rows may be scaled, not the tokens)."""
        node = self.nodes[use[0]]
        axis = node.attributes.get_int("axis", 0)
        return node.op_type == "Gather" and use[1] == 0 and axis == 0 and stored.codes.ndim == 2

    def _form(self, use: tuple[str, int], stored: Stored) -> Form:
        if self.arithmetic == "float32" or stored.codes.dtype != np.int8:
            return "folded"
        node = self.nodes[use[0]]
        if node.op_type == "Transpose":
            users = [usage.node.op_type for usage in node.outputs[0].uses()]
            return "dequantize" if set(users) <= _INT8_OPERATORS else "folded"
        return "dequantize" if node.op_type in _INT8_OPERATORS and use[1] == 1 else "folded"

    def _folded(self, before: ir.Node, codes: ir.Value, stored: Stored) -> ir.Value:
        """Cast and multiply: the runtime folds it into an fp32 weight when it loads the file."""
        value = self._node(before, "Cast", [codes], {"to": ir.DataType.FLOAT})
        for suffix, steps in (("rows", stored.row_steps), ("columns", stored.column_steps)):
            if steps is not None:
                scale = self._constant(f"{stored.name}.{suffix}", steps)
                value = self._node(before, "Mul", [value, scale])
        return value

    def _dequantized(
        self, uses: Iterable[tuple[str, int]], codes: ir.Value, stored: Stored
    ) -> None:
        """DequantizeLinear; column steps move to the other factor of the product."""
        axes = [axis for axis, size in enumerate(stored.row_steps.shape) if size != 1]
        steps = stored.row_steps.reshape(-1) if axes else stored.row_steps.reshape(())
        scale = self._constant(f"{stored.name}.steps", steps)
        attributes = {"axis": axes[0]} if axes else {}
        uses = list(uses)
        before = min((self.nodes[name] for name, _ in uses), key=self._position)
        weight = self._node(before, "DequantizeLinear", [codes, scale], attributes)
        self._replace(uses, weight)
        if stored.column_steps is None:
            return
        columns = self._constant(f"{stored.name}.columns", stored.column_steps.reshape(-1))
        for node in self._products(uses):
            factor = node.inputs[0]
            if factor is not None:
                node.replace_input_with(0, self._node(node, "Mul", [factor, columns]))

    def _products(self, uses: Iterable[tuple[str, int]]) -> list[ir.Node]:
        nodes = [self.nodes[name] for name, _ in uses]
        turned = [node for node in nodes if node.op_type == "Transpose"]
        direct = [node for node in nodes if node.op_type != "Transpose"]
        return direct + [usage.node for node in turned for usage in node.outputs[0].uses()]

    def _gather(self, node: ir.Node, codes: ir.Value, stored: Stored) -> None:
        """Looks up codes and steps of the rows asked for and multiplies only those."""
        indices = node.inputs[1]
        row_axis = stored.row_steps.shape[0] != 1
        rows = self._node(node, "Gather", [codes, indices], {"axis": 0})
        value = self._node(node, "Cast", [rows], {"to": ir.DataType.FLOAT})
        factors = (("rows", stored.row_steps), ("columns", stored.column_steps))
        for suffix, steps in factors:
            if steps is None:
                continue
            scale = self._constant(f"{stored.name}.{suffix}", steps)
            if steps.shape[0] != 1:
                scale = self._node(node, "Gather", [scale, indices], {"axis": 0})
            value = self._node(node, "Mul", [value, scale])
        del row_axis
        output = node.outputs[0]
        ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)

    def _node(
        self,
        before: ir.Node,
        operator: str,
        inputs: list[ir.Value | None],
        attributes: Mapping[str, object] | None = None,
    ) -> ir.Value:
        stem = f"{inputs[0].name if inputs[0] is not None else ''}_{operator}"
        name = self._fresh(stem, {n for n in self.nodes if n})
        node = ir.node(operator, inputs, dict(attributes or {}), name=name)  # type: ignore[arg-type]
        node.outputs[0].name = name
        self.graph.insert_before(before, node)
        self.nodes[name] = node
        return node.outputs[0]

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        name = self._fresh(name, set(self.graph.initializers))
        tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=name)
        value = ir.Value(
            name=name,
            const_value=tensor,
            shape=ir.Shape(tensor.shape),
            type=ir.TensorType(tensor.dtype),
        )
        self.graph.register_initializer(value)
        return value

    @staticmethod
    def _fresh(stem: str, taken: set[str]) -> str:
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        return name

    def _replace(self, uses: Iterable[tuple[str, int]], value: ir.Value) -> None:
        for name, position in uses:
            self.nodes[name].replace_input_with(position, value)
