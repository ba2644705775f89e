"""The sites of an ONNX graph, and where they lie in its file."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor

from lilliput.errors import TaskError
from lilliput.model.capture import Capture
from lilliput.model.convolution import Geometry
from lilliput.model.hashes import model_hash
from lilliput.model.inventory import Inventory, weight_shapes
from lilliput.model.sites import Site
from lilliput.model.sums import rows_of
from lilliput.model.uses import Use
from lilliput.runtime.onnx_bind import Binding, Bindings, Piece
from lilliput.runtime.onnx_clean import array_of, save
from lilliput.runtime.onnx_export import OnnxModel
from lilliput.runtime.onnx_graph import parents
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.runtime.onnx_reads import Reading, readings

WORTH_A_WARNING = 4096  # weights


def capture_onnx(
    module: OnnxModule, inputs: Mapping[str, Tensor], *, smallest: int = 256
) -> Capture:
    """Lists the sites of an ONNX graph, with multiply-adds counted on real inputs.

    Args:
        module: The graph.
        inputs: A batch as the module takes it; only its first example is run.
        smallest: Weights with fewer elements stay as they are.

    Raises:
        TaskError: No weight can change.
    """
    _, seen = next(module.inside(dict(inputs)))
    inventory = _inventory(module, seen, smallest)
    if not inventory.sites:
        raise TaskError(
            "the ONNX graph has no floating-point weights that can change",
            module.notes[0] if module.notes else "is it quantized already?",
        )
    return Capture(
        program=None,
        sites=inventory.sites,
        uses=tuple(inventory.uses),
        macs=inventory.macs,
        frozen=inventory.frozen,
        warnings=(*module.notes, *inventory.warnings),
        how="onnx",
        model_hash=model_hash(module),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
    )


def _inventory(module: OnnxModule, seen: Mapping[str, Tensor], smallest: int) -> Inventory:
    inventory = Inventory()
    owners = parents(module.onnx)
    shapes = weight_shapes(module, smallest)
    for parameter, initializer in module.initializers.items():
        if parameter not in shapes:
            continue
        for found in readings(module.onnx.graph.initializers[initializer], owners):
            if isinstance(found, Reading):
                source = seen.get(found.source)
                use = _use(parameter, found, shapes[parameter], source)
                inventory.add(_site(parameter, found, shapes[parameter]), use)
                if source is not None:
                    inventory.count(use, _macs(use, found, source))
            else:
                inventory.frozen.setdefault(parameter, f"{found[1]} in {found[0]}")
    inventory.close({})
    inventory.warnings += _warnings(inventory, shapes, seen)
    return inventory


def _site(name: str, reading: Reading, shape: tuple[int, ...]) -> Site:
    return Site(
        name=name,
        kind=reading.kind,
        shape=shape,
        rows=reading.rows,
        columns=reading.columns,
        transposed=reading.transposed,
        groups=reading.groups,
    )


def _use(name: str, reading: Reading, shape: tuple[int, ...], source: Tensor | None) -> Use:
    span = reading.row_range
    conv = reading.operation == "conv"
    return Use(
        site=name,
        operation=reading.operation,
        where=reading.node.name or "",
        source=reading.source,
        source_axes=reading.source_axes,
        geometry=_geometry(reading.node, shape[2:], source) if conv else None,
        label=f"{reading.rows} rows" if reading.operation == "embedding" else "",
        row_index=None if span is None else torch.arange(*span),
    )


def _macs(use: Use, reading: Reading, source: Tensor) -> int:
    if use.operation == "embedding":
        return 0
    rows = reading.rows if use.row_index is None else len(use.row_index)
    return prod(rows_of(use, source)) * rows * reading.columns


def _geometry(node: ir.Node, kernel: Sequence[int], source: Tensor | None) -> Geometry:
    dims = len(kernel)
    settings = {
        name: tuple(node.attributes.get_ints(name, (1,) * dims))
        for name in ("strides", "dilations")
    }
    pads = tuple(node.attributes.get_ints("pads", (0,) * 2 * dims))
    padding = tuple(zip(pads[:dims], pads[dims:], strict=True))
    wanted = node.attributes.get_string("auto_pad", "NOTSET")
    if wanted.startswith("SAME") and source is not None:
        spans = [
            max(0, (-(-size // jump) - 1) * jump + step * (width - 1) + 1 - size)
            for size, width, jump, step in zip(
                source.shape[2:], kernel, settings["strides"], settings["dilations"], strict=True
            )
        ]
        halves = [(span // 2, span - span // 2) for span in spans]
        padding = tuple(pair if wanted == "SAME_UPPER" else pair[::-1] for pair in halves)
    return Geometry(
        kernel=tuple(kernel),
        stride=settings["strides"],
        padding=padding,
        dilation=settings["dilations"],
        groups=node.attributes.get_int("group", 1),
    )


def _warnings(
    inventory: Inventory, shapes: Mapping[str, tuple[int, ...]], seen: Mapping[str, Tensor]
) -> list[str]:
    large = [name for name in inventory.frozen if prod(shapes[name]) >= WORTH_A_WARNING]
    said = [f"{name}: {inventory.frozen[name]}, stays as it is" for name in large]
    taken = {use.site for use in inventory.uses if use.source in seen}
    idle = [name for name in inventory.sites if name not in taken]
    if idle:
        more = f" (and {len(idle) - 1} others)" if len(idle) > 1 else ""
        said.append(
            f"{idle[0]}{more}: in a branch that the first example does not take; "
            "give examples of every kind"
        )
    return said


def bind_onnx(module: OnnxModule, path: Path) -> Bindings:
    """Writes the graph; every parameter is an initializer of it, as it is.

    Args:
        module: The graph.
        path: Where to write.
    """
    save(module.onnx, path)
    found = []
    for parameter, initializer in module.initializers.items():
        value = module.onnx.graph.initializers[initializer]
        shape = array_of(value).shape
        places = tuple((use.node.name or "", use.idx) for use in value.uses())
        found.append(Binding(initializer, shape, (Piece(parameter, shape),), places))
    original = OnnxModel(path, tuple(port.name for port in module.ports), module.outputs, {})
    return Bindings(original, tuple(found), (), (), frozenset(module.initializers))
