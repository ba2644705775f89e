"""Reads the sites of a model off its exported graph."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from lilliput.model.reads import READERS, SHAPE_ONLY, Operation, Reading
from lilliput.model.sites import Site
from lilliput.model.views import Orientation, is_view, operand, orient, root_of


@dataclass(frozen=True)
class Use:
    """One place that reads a site.

    Attributes:
        site: Name of the site.
        operation: How the weight is applied to its source.
        where: The graph's node, or the module, that reads it.
        source: Name of the graph's node whose value it is applied to.
        source_axis: Axis of the source that holds the inputs (``linear``).
        row_index: Rows of the site's matrix view that are read; None means all.
        column_index: The same for columns.
        part: Position in a recurrent node's list of weights.
    """

    site: str
    operation: Operation
    where: str
    source: str
    source_axis: int = -1
    row_index: Tensor | None = None
    column_index: Tensor | None = None
    part: int = 0


@dataclass
class Inventory:
    """Sites, their uses and multiply-adds, what is frozen and what should be said."""

    sites: dict[str, Site] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    macs: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def take_inventory(
    program: ExportedProgram, model: nn.Module, *, smallest: int = 256, prefix: str = ""
) -> Inventory:
    """Lists the sites of an exported graph in the order in which they are used.

    Args:
        program: A non-decomposed export of `model` or of its submodule `prefix`.
        model: The whole model; its canonical parameter names are the sites' names.
        smallest: Weights with fewer elements are left out.
        prefix: Qualified name of the exported submodule, with a final dot; empty for the model.
    """
    names = canonical_names(model)
    weights = {
        spec.arg.name: names[prefix + str(spec.target)]
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.PARAMETER
    }
    tensors = dict(model.named_parameters())
    weights = {
        node: name
        for node, name in weights.items()
        if tensors[name].is_floating_point()
        and tensors[name].ndim >= 2
        and tensors[name].numel() >= smallest
    }
    inventory = Inventory()
    uses: list[Use] = []
    for node in program.graph.nodes:
        for use in _uses_of(node, weights, tensors, inventory):
            uses.append(use)
    _drop_frozen(inventory)
    _add_ties(inventory, names)
    inventory.uses = tuple(use for use in uses if use.site in inventory.sites)
    batch = _batch_hint(program)
    nodes = {node.name: node for node in program.graph.nodes}
    for use in inventory.uses:
        macs = _macs(use, nodes[use.where], inventory.sites[use.site]) // batch
        inventory.macs[use.site] = inventory.macs.get(use.site, 0) + macs
    return inventory


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Every name a parameter is registered under -> its name in ``model.named_parameters()``."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every}


def _uses_of(
    node: fx.Node, weights: dict[str, str], tensors: dict[str, Any], inventory: Inventory
) -> Iterator[Use]:
    """Uses of weights by one node; weights that it reads in any other way are frozen."""
    if is_view(node) or node.target in SHAPE_ONLY:
        return
    roots = {argument: root_of(argument).name for argument in node.all_input_nodes}
    touched = {argument: weights[root] for argument, root in roots.items() if root in weights}
    if not touched:
        return
    readings = READERS[node.target](node) if node.target in READERS else []
    for reading in readings:
        name = touched.pop(reading.weight, None)
        if name is None:
            continue
        if reading.source is reading.weight or reading.source in touched:
            inventory.frozen[name] = f"multiplied by another weight in {_place(node)}"
            continue
        found = _place_of(reading, tuple(tensors[name].shape))
        if found is None:
            inventory.frozen[name] = (
                f"read through a view that mixes rows and columns: {_place(node)}"
            )
            continue
        _register(inventory, name, reading, found, shape=tuple(tensors[name].shape), node=node)
        yield Use(
            site=name,
            operation=reading.operation,
            where=node.name,
            source=reading.source.name,
            source_axis=reading.source_axis,
            row_index=found.row_index,
            column_index=found.column_index,
            part=reading.part,
        )
    for name in touched.values():
        inventory.frozen[name] = f"read by {node.target} in {_place(node)}"


def _place_of(reading: Reading, shape: tuple[int, ...]) -> Orientation | None:
    index = operand(reading.weight).index
    if reading.operation == "linear":
        if reading.turned:
            if index is None and len(shape) == 2:
                return Orientation(shape[1], shape[0], True)
            return orient(shape, index.t()) if index is not None and index.ndim == 2 else None
        return orient(shape, index) if index is None or index.ndim == 2 else None
    if index is not None:
        return None
    return Orientation(shape[0], math.prod(shape[1:]), False)


def _register(
    inventory: Inventory,
    name: str,
    reading: Reading,
    found: Orientation,
    *,
    shape: tuple[int, ...],
    node: fx.Node,
) -> None:
    groups = _groups(node) if reading.operation == "conv" else 1
    site = Site(name, reading.kind, shape, found.rows, found.columns, found.transposed, groups)
    known = inventory.sites.get(name)
    if known is None:
        inventory.sites[name] = site
        return
    if (known.rows, known.transposed, known.groups) != (site.rows, site.transposed, site.groups):
        inventory.frozen[name] = f"read in two orientations: {_place(node)}"
    kind = "embedding" if "embedding" in (known.kind, site.kind) else known.kind
    inventory.sites[name] = replace(known, kind=kind, uses=known.uses + 1)


def _groups(node: fx.Node) -> int:
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    return int(groups)  # type: ignore[arg-type]


def _drop_frozen(inventory: Inventory) -> None:
    for name in inventory.frozen:
        inventory.sites.pop(name, None)


def _add_ties(inventory: Inventory, names: dict[str, str]) -> None:
    for name, site in inventory.sites.items():
        ties = tuple(other for other, first in names.items() if first == name and other != name)
        if ties:
            inventory.sites[name] = replace(site, ties=ties)


def _place(node: fx.Node) -> str:
    """``file:line`` of the innermost user code behind a node, or the node's own name."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    return (
        lines[-1].removeprefix("File ").replace('", line ', ":").strip('"') if lines else node.name
    )


def _hint(size: Any) -> int:
    node = getattr(size, "node", None)
    hint = size if node is None else node.hint
    return 1 if hint is None else int(hint)


def _batch_hint(program: ExportedProgram) -> int:
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in names and isinstance(value, Tensor):
            if value.ndim:
                return max(1, _hint(value.shape[0]))
    return 1


def _macs(use: Use, node: fx.Node, site: Site) -> int:
    """Multiply-adds of one use on the whole captured batch."""
    if use.operation == "embedding":
        return 0
    columns = site.columns if use.column_index is None else len(use.column_index)
    if use.operation == "recurrent":
        steps = [_hint(size) for size in node.args[0].meta["val"].shape[:-1]]  # type: ignore[union-attr]
        return math.prod(steps) * site.size
    return math.prod(_hint(size) for size in node.meta["val"].shape) * columns
