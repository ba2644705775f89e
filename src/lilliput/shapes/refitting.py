"""What reads a narrower width is fitted anew, so that it answers as before."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from lilliput.evaluation import evaluating
from lilliput.model.capture import calls_of
from lilliput.model.graph import Walk, weight_names
from lilliput.model.sites import Site
from lilliput.model.sources import result_rows, source_rows, sources_at
from lilliput.model.uses import Use
from lilliput.shapes.deaf import Deaf, Mixing
from lilliput.shapes.flow import named_arguments, operator_name
from lilliput.shapes.resize import Kept
from lilliput.tensor.refitting import Misses

MOST_POSITIONS = 1024  # of a feature map, per example


@dataclass(frozen=True)
class Constant:
    """Where a constant can be added to what a weight gives.

    Attributes:
        name: A bias, or the running mean of the batch norm behind a convolution.
        sign: Whether it is added (1) or subtracted (-1).
    """

    name: str
    sign: Literal[1, -1]


@dataclass(frozen=True)
class Reader:
    """One place that reads what was narrowed.

    Attributes:
        use: The place.
        site: Its weight.
        node: Its node.
        rows: Rows of the weight that are read with.
        kept: Of the columns that are read, those that stay.
        constant: Where its mean can go; None where it cannot.
        beside: What its result is added to next, if it is: it makes up for that, too.
    """

    use: Use
    site: Site
    node: fx.Node
    rows: Tensor
    kept: Tensor
    constant: Constant | None
    beside: fx.Node | None

    @property
    def columns(self) -> Tensor:
        """Columns of the weight that stay."""
        found = self.use.column_index
        return self.kept if found is None else found.long()[self.kept]


@dataclass
class Refitted:
    """Weights of the old sizes after the fit.

    Attributes:
        weights: By name; what reads nothing of what goes has zeros there.
        fitted: Names of the weights that were fitted.
        notes: What could not be fitted, and why.
    """

    weights: dict[str, Tensor]
    fitted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def refit(model: nn.Module, kept: Kept, *, batches: Iterable[Any]) -> Refitted:
    """Least squares for every weight that reads a cut width, in the order of the graph.

    The original and the model deaf to what goes are walked through the graph side by side, all
    batches up to one weight before the first goes on. So a weight also makes up for what those
    before it could not, and only what is alive at that place is held in memory.

    Args:
        model: The original; it is not changed.
        kept: What stays.
        batches: Calibration inputs.
    """
    state = dict(model.state_dict(keep_vars=True))
    found = Refitted(kept.deaf(state))
    readers = _readers(kept, found)
    program = kept.shape.captured.graph
    walks: list[tuple[Walk, Walk]] = []
    mixing, deaf = Mixing(kept), Deaf(model, found.weights)
    with evaluating(model), torch.no_grad():
        for batch in batches:
            for call in calls_of(kept.shape.captured, model, batch):
                walks.append(
                    (
                        Walk(program, model, call, visit=_as_it_is, at=frozenset()),
                        Walk(program, deaf, call, visit=mixing, at=mixing.at),
                    )
                )
        pending: list[fx.Node] = []
        left = sum(map(len, readers.values()))
        for node in program.graph.nodes:
            here = readers.get(node, [])
            if here:
                for pair in walks:
                    for walk in pair:
                        _advance(walk, pending)
                pending = []
                for reader in here:
                    _fit(reader, walks, state=state, found=found)
                left -= len(here)
                if not left:
                    break
            pending.append(node)
    return found


def write(found: Refitted, model: nn.Module, *, kept: Kept) -> None:
    """Puts fitted weights into the narrower model.

    Args:
        found: From `refit`.
        model: The narrower model; its weights change.
        kept: What stays.
    """
    own = dict(model.state_dict(keep_vars=True))
    sources = kept.shape.flow.sources
    with torch.no_grad():
        for name, value in found.weights.items():
            own[name].copy_(kept.cut(value, sources[name].axes) if name in sources else value)


def _as_it_is(node: fx.Node, args: tuple[Any, ...], value: Any) -> Any:
    return value


def _advance(walk: Walk, nodes: Sequence[fx.Node]) -> None:
    for node in nodes:
        walk.step(node)


def _fit(
    reader: Reader,
    walks: Sequence[tuple[Walk, Walk]],
    *,
    state: dict[str, Tensor],
    found: Refitted,
) -> None:
    """Corrects one weight and its constant, in the result and in the walks."""
    site, node, name = reader.site, reader.node, reader.site.name
    before = site.matrix(state[name].detach().float())[reader.rows]
    index = reader.use.column_index
    before = before if index is None else before[:, index.long()]
    groups = site.groups
    before = before.reshape(groups, -1, before.shape[1])  # (groups, rows, columns)
    sums = Misses(groups, len(reader.kept), before.shape[1])
    for one, other in walks:
        sources = [
            sources_at(node, walk.arguments(node), [reader.use])[reader.use]
            for walk in (one, other)
        ]
        pieces = [source_rows(reader.use, s, most_positions=MOST_POSITIONS) for s in sources]
        drift, done = _drift(reader, one, other=other), 0
        for whole, less in zip(*pieces, strict=True):
            inputs = less[..., reader.kept].float()
            missed = whole.float() @ before.transpose(1, 2)
            missed -= inputs @ before[..., reader.kept].transpose(1, 2)
            if drift is not None:
                rows = drift[done : done + missed.shape[1]]  # (n, groups * rows)
                missed += rows.reshape(len(rows), groups, -1).transpose(0, 1)
                done += len(rows)
            sums.add(inputs, missed)
    added, shift = sums.correction(centred=reader.constant is not None)
    matrix = site.matrix(found.weights[name].float()).clone()
    matrix[reader.rows[:, None], reader.columns[None, :]] += added.flatten(0, 1)
    _replace(name, site.parameter(matrix), walks=walks, state=state, found=found)
    if reader.constant is not None:
        constant = reader.constant
        value = found.weights.get(constant.name, state[constant.name].detach())
        value = value + constant.sign * shift.flatten()
        _replace(constant.name, value, walks=walks, state=state, found=found)
    found.fitted.append(name)


def _drift(reader: Reader, one: Walk, *, other: Walk) -> Tensor | None:
    """(n, outputs) by how much what the result is added to has already changed."""
    if reader.beside is None:
        return None
    change = one.values[reader.beside].float() - other.values[reader.beside].float()
    return result_rows(reader.use, change, most_positions=MOST_POSITIONS)


def _replace(
    name: str,
    value: Tensor,
    *,
    walks: Sequence[tuple[Walk, Walk]],
    state: dict[str, Tensor],
    found: Refitted,
) -> None:
    """A new value in the result and in every walk of the narrower model."""
    value = value.to(state[name].dtype)
    for alias in [alias for alias, own in state.items() if own is state[name]]:
        found.weights[alias] = value
        for _, walk in walks:
            walk.bind(alias, value)


def _readers(kept: Kept, found: Refitted) -> dict[fx.Node, list[Reader]]:
    """What can be fitted, by node; the rest is noted."""
    captured = kept.shape.captured
    nodes = {node.name: node for node in captured.graph.graph.nodes}
    targets = weight_names(captured.graph)
    readers: dict[fx.Node, list[Reader]] = {}
    for name in found.weights:
        site = captured.sites.get(name)
        if site is None:
            if not any(name in other.ties for other in captured.sites.values()):
                found.notes.append(f"{name} was not fitted anew: it is no weight of a product")
            continue
        uses = [use for use in captured.uses if use.site == name and use.operation != "embedding"]
        reason = _reason(site, uses, nodes=nodes, targets=targets)
        if reason:
            found.notes.append(f"{name} was not fitted anew: {reason}")
            continue
        for use in uses:
            heard = site.matrix(kept.heard(name))[:1].squeeze(0)
            columns = heard if use.column_index is None else heard[use.column_index.long()]
            node = nodes[use.where]
            whole = torch.arange(site.rows)
            rows = whole if use.row_index is None else use.row_index.long()
            stays = columns.nonzero().squeeze(1)
            constant = _constant(node, targets) if use.row_index is None else None
            beside = _beside(node) if use.row_index is None else None
            found_reader = Reader(use, site, node, rows, stays, constant, beside)
            readers.setdefault(node, []).append(found_reader)
    return readers


def _reason(
    site: Site, uses: Sequence[Use], *, nodes: dict[str, fx.Node], targets: dict[fx.Node, str]
) -> str:
    """Why a weight cannot be fitted; empty where it can."""
    if site.kind == "embedding":
        return "it is a table too"
    if any("state" in use.label for use in uses):
        return "what it reads is what it makes"
    rows = [range(site.rows) if use.row_index is None else use.row_index.tolist() for use in uses]
    read = [row for one in rows for row in one]
    if len(read) != len(set(read)):
        return "it is read in several places"
    names = {site.name, *site.ties}
    for use in uses:
        if not any(targets.get(node) in names for node in nodes[use.where].all_input_nodes):
            return "it is read through other operators"
    return ""


def _constant(node: fx.Node, targets: dict[fx.Node, str]) -> Constant | None:
    """The bias of a product, or the running mean of the only norm behind it."""
    values = named_arguments(node)
    given = values.get("bias")
    if isinstance(given, fx.Node) and given in targets:
        return Constant(targets[given], 1)
    behind = list(node.users)
    if len(behind) == 1 and operator_name(behind[0]) == "batch_norm":
        mean = named_arguments(behind[0]).get("running_mean")
        if isinstance(mean, fx.Node) and mean in targets:
            return Constant(targets[mean], -1)
    return None


def _beside(node: fx.Node) -> fx.Node | None:
    """What a product's result is added to, perhaps behind dropout, and is known before it."""
    before = {node, *_earlier(node)}
    while len(node.users) == 1:
        (user,) = node.users
        if operator_name(user) in ("dropout", "dropout_"):
            node = user
            continue
        others = [one for one in user.all_input_nodes if one is not node]
        added = operator_name(user) in ("add", "add_") and len(others) == 1
        if added and others[0] in before and _alike(node, others[0]):
            return others[0]
        break
    return None


def _earlier(node: fx.Node) -> set[fx.Node]:
    """All nodes before one."""
    nodes = list(node.graph.nodes)
    return set(nodes[: nodes.index(node)])


def _alike(one: fx.Node, other: fx.Node) -> bool:
    """Whether two values have one shape."""
    left, right = one.meta.get("val"), other.meta.get("val")
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return False
    return len(left.shape) == len(right.shape) and all(
        str(a) == str(b) for a, b in zip(left.shape, right.shape, strict=True)
    )
