"""Reads the sites of a model off its exported graph."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from lilliput.model.reads import READERS, SHAPE_ONLY, Reading
from lilliput.model.sites import Site
from lilliput.model.sizes import hint
from lilliput.model.uses import Use, row_groups
from lilliput.model.views import Orientation, is_view, operand, orient, root_of


@dataclass
class Inventory:
    """Sites, their uses and multiply-adds, what is frozen and what should be said."""

    sites: dict[str, Site] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    macs: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, site: Site, use: Use) -> None:
        """Registers one use of a site; a site seen before must be read the same way round."""
        self.uses.append(use)
        known = self.sites.setdefault(site.name, replace(site, uses=0))
        view = (site.rows, site.columns, site.transposed, site.groups)
        if view != (known.rows, known.columns, known.transposed, known.groups):
            self.frozen[site.name] = f"read as two different matrices, the second in {use.where}"
        kind = "embedding" if site.kind == "embedding" else known.kind
        self.sites[site.name] = replace(known, kind=kind, uses=known.uses + 1)

    def close(self, names: dict[str, str]) -> None:
        """Drops frozen sites, groups the rows of the others and notes their ties.

        Args:
            names: Every name of a parameter -> its canonical name.
        """
        for name, site in list(self.sites.items()):
            uses = [use for use in self.uses if use.site == name]
            groups = row_groups(site, uses)
            if groups == 0:
                self.frozen[name] = "its rows are read in too many different ways"
            ties = tuple(other for other, first in names.items() if first == name != other)
            self.sites[name] = replace(site, groups=groups, ties=ties)
        for name in self.frozen:
            self.sites.pop(name, None)
        self.uses = [use for use in self.uses if use.site in self.sites]

    def count(self, use: Use, macs: int) -> None:
        """Adds multiply-adds of one example."""
        self.macs[use.site] = self.macs.get(use.site, 0) + macs


def take_inventory(
    program: ExportedProgram, model: nn.Module, *, smallest: int = 256, part: str = ""
) -> Inventory:
    """Lists the sites of an exported graph in the order in which they are used.

    Args:
        program: A non-decomposed export of `model` or of its submodule `part`.
        model: The whole model; its canonical parameter names are the sites' names.
        smallest: Weights with fewer elements are left out.
        part: Qualified name of the exported submodule; empty for the whole model.
    """
    names = canonical_names(model)
    prefix = f"{part}." if part else ""
    shapes = weight_shapes(model, smallest)
    weights = {
        spec.arg.name: names[prefix + str(spec.target)]
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.PARAMETER and names[prefix + str(spec.target)] in shapes
    }
    inventory = Inventory()
    for node in program.graph.nodes:
        for use, site in _uses_of(node, weights, shapes=shapes, frozen=inventory.frozen):
            inventory.add(site, use)
    inventory.close(names)
    batch = _batch_hint(program)
    nodes = {node.name: node for node in program.graph.nodes}
    for use in inventory.uses:
        macs = _macs(use, nodes[use.where], inventory.sites[use.site])
        inventory.count(use, macs // batch)
    return inventory


def weight_shapes(model: nn.Module, smallest: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters that may be sites: floating point, 2-D or more, large enough."""
    return {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and parameter.ndim >= 2 and parameter.numel() >= smallest
    }


def canonical_names(model: nn.Module) -> dict[str, str]:
    """Every name a parameter is registered under -> its name in ``model.named_parameters()``."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every}


def _uses_of(
    node: fx.Node,
    weights: dict[str, str],
    *,
    shapes: dict[str, tuple[int, ...]],
    frozen: dict[str, str],
) -> Iterator[tuple[Use, Site]]:
    """Uses of weights by one node; weights that it reads in any other way are frozen."""
    if is_view(node) or node.target in SHAPE_ONLY:
        return
    roots = {fed: root_of(fed).name for fed in node.all_input_nodes}
    touched = {fed: weights[root] for fed, root in roots.items() if root in weights}
    if not touched:
        return
    readings = READERS[node.target](node) if node.target in READERS else []
    read: set[fx.Node] = set()
    for reading in readings:
        if reading.weight not in touched or reading.source in touched:
            continue
        read.add(reading.weight)
        name = touched[reading.weight]
        found = _place_of(reading, shapes[name])
        if found is None:
            frozen[name] = f"read through a view that is no (out, in) matrix in {_place(node)}"
        else:
            site = _site(reading, name, found=found, shape=shapes[name])
            yield _use(reading, name, found=found, where=node.name), site
    for fed, name in touched.items():
        if fed not in read:
            frozen[name] = f"read by {node.target} in {_place(node)}"


def _use(reading: Reading, name: str, *, found: Orientation, where: str) -> Use:
    return Use(
        site=name,
        operation=reading.operation,
        where=where,
        source=reading.source.name,
        source_axes=reading.source_axes,
        output_axes=reading.output_axes,
        geometry=reading.geometry,
        label=_label(reading, found, where),
        row_index=found.row_index,
        column_index=found.column_index,
    )


def _label(reading: Reading, found: Orientation, where: str) -> str:
    if reading.operation == "embedding":
        return f"{found.rows} rows"
    return f"{where} {reading.label}" if reading.label else ""


def _site(reading: Reading, name: str, *, found: Orientation, shape: tuple[int, ...]) -> Site:
    return Site(
        name=name,
        kind=reading.kind,
        shape=shape,
        rows=found.rows,
        columns=found.columns,
        transposed=found.transposed,
        groups=1 if reading.geometry is None else reading.geometry.groups,
    )


def _place_of(reading: Reading, shape: tuple[int, ...]) -> Orientation | None:
    """How the operand of a reading lies in its parameter; None if it is no (out, in) matrix."""
    index = operand(reading.weight).index
    if reading.operation != "linear":
        whole = index is None
        return Orientation(shape[0], math.prod(shape[1:]), False) if whole else None
    outs, ins = reading.axes
    if index is None and len(shape) == 2:
        if (outs, ins) == ((0,), (1,)):
            return Orientation(shape[0], shape[1], False)
        return Orientation(shape[1], shape[0], True)
    value = reading.weight.meta["val"]
    if value.ndim != len(outs) + len(ins):
        return None
    if index is None:
        index = operand(reading.weight, always=True).index
    if index is None:
        return None
    sizes = [math.prod(index.shape[axis] for axis in axes) for axes in (outs, ins)]
    return orient(shape, index.permute(*outs, *ins).reshape(sizes))


def _place(node: fx.Node) -> str:
    """``file:line`` of the innermost user code behind a node, or the node's own name."""
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    if not lines:
        return node.name
    file, _, rest = lines[-1].removeprefix('File "').partition('", line ')
    return f"{file}:{rest}"


def _batch_hint(program: ExportedProgram) -> int:
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        value = node.meta.get("val")
        given = node.op == "placeholder" and node.name in names
        if given and isinstance(value, Tensor) and value.ndim:
            return max(1, hint(value.shape[0]))
    return 1


def _macs(use: Use, node: fx.Node, site: Site) -> int:
    """Multiply-adds of one use on the whole captured batch."""
    if use.operation == "embedding":
        return 0
    if use.operation == "recurrent":
        source: Any = node.args[0]
        return math.prod(hint(size) for size in source.meta["val"].shape[:-1]) * site.size
    columns = site.columns if use.column_index is None else len(use.column_index)
    return math.prod(hint(size) for size in node.meta["val"].shape) * columns
