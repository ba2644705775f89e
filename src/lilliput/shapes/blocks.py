"""The blocks of a model: repeated residual parts, found on its graph."""

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import fx
from torch.export.graph_signature import InputKind

from lilliput.errors import ShapeError
from lilliput.model.capture import Capture
from lilliput.shapes.flow import module_of, operator_name
from lilliput.shapes.residuals import (
    Call,
    Residual,
    Size,
    between,
    calls,
    chain,
    residuals,
    size_of,
    weights_of,
)

LIST = "`lilliput.blocks(model, inputs)` lists the blocks, and why some have to stay"


@dataclass(frozen=True)
class Block:
    """A residual part of a model: it gives a tensor of the shape that it is given.

    Attributes:
        name: The module that it is, or in which its branch ends; ``#2`` for a second one.
        module: Whether the module's ``forward`` is the whole block.
        size: Shape of what it is given and of what it gives; None for axes that vary.
        parameters: Weights that are read nowhere else.
        share: Its multiply-adds by weights over the model's, in [0, 1].
        alike: Names of the blocks of the same structure, its own among them, in order.
        within: The smallest block that it is a part of; empty if there is none.
        frozen: Why it has to stay; empty if it can go.
        entry: Name of the graph's node that it is given.
        exit: Name of the node that it gives.
        inside: Names of the nodes between, the last included.
    """

    name: str
    module: bool
    size: Size
    parameters: int
    share: float
    alike: tuple[str, ...] = ()
    within: str = ""
    frozen: str = ""
    entry: str = ""
    exit: str = ""
    inside: frozenset[str] = frozenset()

    @property
    def free(self) -> bool:
        """Whether it can be dropped."""
        return not self.frozen

    def __str__(self) -> str:
        size = " x ".join("*" if n is None else str(n) for n in self.size)
        state = f"frozen: {self.frozen}" if self.frozen else f"{self.parameters:,} weights"
        part = f"; part of {self.within}" if self.within else ""
        share = f"{100 * self.share:.1f} % of the products"
        return f"{self.name}: {size} ({state}, {share}); one of {len(self.alike)} alike{part}"


def blocks_of(captured: Capture) -> dict[str, Block]:
    """The blocks of a captured model by name, in the order of the graph.

    A block is a module whose ``forward`` is a chain of residual sums, or a residual sum that is a
    part of a module. A module of several blocks of one structure is a stage, not a block. Modules
    of a block's class that are none are listed with the reason.
    """
    return _Search(captured).found()


def outermost(blocks: dict[str, Block]) -> list[Block]:
    """The blocks that can go and are no part of another one."""
    return [one for one in blocks.values() if one.free and not one.within]


def named_block(blocks: dict[str, Block], name: str) -> Block:
    """A block that can go, by its name.

    Raises:
        ShapeError: There is none (the nearest is named), or it has to stay (why).
    """
    if name not in blocks:
        close = difflib.get_close_matches(name, blocks, n=1)
        raise ShapeError(
            f"the model has no block {name!r}", f"did you mean {close[0]}?" if close else LIST
        )
    if blocks[name].frozen:
        raise ShapeError(f"{name} cannot go: {blocks[name].frozen}", LIST)
    return blocks[name]


class _Search:
    """One look through a captured graph."""

    def __init__(self, captured: Capture) -> None:
        self.captured = captured
        self.graph = captured.graph.graph
        self.order = {node: place for place, node in enumerate(self.graph.nodes)}
        kinds = captured.graph.graph_signature.input_specs
        self.targets = {one.arg.name: str(one.target) for one in kinds}
        trained = {one.arg.name for one in kinds if one.kind is InputKind.PARAMETER}
        self.parameters = {node for node in self.graph.nodes if node.name in trained}
        self.macs = sum(captured.macs.values()) or 1
        self.calls = calls(self.graph)
        self.sums = {one.added: one for one in residuals(self.graph, self.parameters)}

    def found(self) -> dict[str, Block]:
        """All blocks with what they are alike to and part of."""
        whole = self._modules()
        known = {(one.entry, one.exit) for one in whole}
        single = {node for one in whole if (node := self._only_sum(one)) is not None}
        parts = [
            self._part(one)
            for one in self.sums.values()
            if one.added not in single and (one.entry.name, one.exit.name) not in known
        ]
        listed = self._without_stages([*whole, *parts])
        listed += self._others(listed)
        places = {node.name: place for node, place in self.order.items()}
        listed.sort(key=lambda one: (places.get(one.exit, 0), len(one.inside)))
        return _related(_named(listed), self._structures(listed))

    def _modules(self) -> list[Block]:
        """Modules that are chains; of several with the same ends the innermost."""
        found: dict[tuple[str, str], Block] = {}
        times = {call.path: call.number + 1 for call in self.calls}
        for call in self.calls:
            ends = chain(call, self.sums)
            if ends is not None and set(between(*ends, order=self.order)) <= set(call.nodes):
                block = self._block(call.path, *ends, module=times[call.path] == 1)
                found[block.entry, block.exit] = block
        return list(found.values())

    def _part(self, residual: Residual) -> Block:
        return self._block(self._place(residual), residual.entry, residual.exit, module=False)

    def _block(self, name: str, entry: fx.Node, exit: fx.Node, *, module: bool) -> Block:
        nodes = between(entry, exit, order=self.order)
        inside = set(nodes)
        read = {one for one in weights_of(nodes) if one in self.parameters}
        names = {self.targets[one.name] for one in read}
        uses = [use for use in self.captured.uses if use.site in self.captured.macs]
        within = {node.name for node in nodes}
        macs = sum(
            self.captured.macs[use.site] / sum(other.site == use.site for other in uses)
            for use in uses
            if use.site in names and use.where in within
        )
        return Block(
            name=name,
            module=module,
            size=size_of(exit),
            parameters=sum(one.meta["val"].numel() for one in read if inside >= set(one.users)),
            share=macs / self.macs,
            frozen=self._reason(nodes),
            entry=entry.name,
            exit=exit.name,
            inside=frozenset(within),
        )

    def _reason(self, nodes: list[fx.Node]) -> str:
        """Why a block has to stay: something of it is read outside, or it keeps a state."""
        inside, written = set(nodes), self.captured.graph.graph_signature.buffers_to_mutate
        for node in nodes:
            if node.name in written:
                return f"it writes to {written[node.name]}"
            for user in node.users if node is not nodes[-1] else ():
                if user not in inside and user.meta.get("val", ()) is not None:
                    reader = "the model's output" if user.op == "output" else module_of(user)
                    return f"{reader or 'the model'} reads {operator_name(node)} inside of it"
        return ""

    def _only_sum(self, block: Block) -> fx.Node | None:
        """The sum of a module of one residual sum."""
        found = [one for one in self.sums if one.name in block.inside]
        return found[0] if len(found) == 1 else None

    def _place(self, residual: Residual) -> str:
        """The outermost module inside that ends the branch, or the owner of its last weight."""
        inside = set(between(residual.entry, residual.exit, order=self.order))
        ends = {residual.branch, residual.added}
        fitting = [
            call.path
            for call in self.calls
            if ends & set(call.nodes) and inside >= set(call.results)
            if residual.entry not in call.nodes and self.parameters & set(call.given)
        ]
        if fitting:
            return min(fitting, key=len)
        branch = weights_of(between(residual.entry, residual.branch, order=self.order))
        last = [self.targets[one.name] for one in branch if one in self.parameters][-1]
        return last.rpartition(".")[0] or last

    def _without_stages(self, listed: list[Block]) -> list[Block]:
        """Leaves out what holds two modules, or three parts, of one structure."""
        structures = self._structures(listed)
        kept = []
        for one in listed:
            inner = [other for other in listed if other.inside < one.inside]
            alike = Counter((structures[other.inside], other.module) for other in inner)
            if all(count < (2 if module else 3) for (_, module), count in alike.items()):
                kept.append(one)
        return kept

    def _structures(self, listed: Iterable[Block]) -> dict[frozenset[str], tuple[object, ...]]:
        """Operators and shapes of weights of each block."""
        return {
            one.inside: tuple(
                (operator_name(node), tuple(_shapes(node, self.parameters)))
                for node in self.graph.nodes
                if node.name in one.inside
            )
            for one in listed
        }

    def _others(self, listed: list[Block]) -> list[Block]:
        """Modules of a block's class that are none."""
        blocks = {one.name for one in listed if one.module}
        kinds = {call.kind for call in self.calls if call.path in blocks}
        return [
            self._other(call)
            for call in self.calls
            if call.kind in kinds and call.path not in blocks and call.number == 0
            if not any(one.name == call.path for one in listed)
        ]

    def _other(self, call: Call) -> Block:
        results = call.results
        given = [one for one in call.given if one.op != "placeholder"] or call.given
        reason, size = "it adds nothing to what it is given", size_of(results[0])
        if given and size_of(given[0]) != size:
            reason = f"it turns {_told(size_of(given[0]))} into {_told(size)}"
        read = {one for one in weights_of(call.nodes) if one in self.parameters}
        names = {self.targets[one.name] for one in read}
        macs = sum(count for name, count in self.captured.macs.items() if name in names)
        count = sum(one.meta["val"].numel() for one in read)
        return Block(
            name=call.path,
            module=True,
            size=size,
            parameters=count,
            share=macs / self.macs,
            frozen=reason,
            exit=results[0].name,
        )


def _shapes(node: fx.Node, parameters: set[fx.Node]) -> list[Size]:
    return [size_of(one) for one in node.all_input_nodes if one in parameters]


def _told(size: Size) -> str:
    return " x ".join("*" if n is None else str(n) for n in size)


def _named(listed: list[Block]) -> dict[str, Block]:
    found: dict[str, Block] = {}
    for one in listed:
        name, number = one.name, 1
        while name in found:
            number += 1
            name = f"{one.name}#{number}"
        found[name] = replace(one, name=name)
    return found


def _related(
    found: dict[str, Block], structures: dict[frozenset[str], tuple[object, ...]]
) -> dict[str, Block]:
    """Fills in which blocks are alike, and which are parts of others."""
    alike: dict[object, list[str]] = {}
    for name, one in found.items():
        if one.inside:
            alike.setdefault(structures[one.inside], []).append(name)
    related = {}
    for name, one in found.items():
        outer = [other for other in found.values() if one.inside and one.inside < other.inside]
        smallest = min(outer, key=lambda other: len(other.inside)).name if outer else ""
        same = alike[structures[one.inside]] if one.inside else [name]
        related[name] = replace(one, alike=tuple(same), within=smallest)
    return related
