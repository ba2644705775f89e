"""One streaming pass over calibration examples: second moments of what goes into every site."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from lilliput.errors import CaptureError, TaskError
from lilliput.model.calls import arguments, evaluating
from lilliput.model.capture import Capture
from lilliput.model.gram import Gram, patch_rows, patches
from lilliput.model.graph import run_graph
from lilliput.model.inventory import Use
from lilliput.model.moments import Moments
from lilliput.model.positions import Mask, Positions, mask_of
from lilliput.model.sites import Site


def observe(
    capture: Capture, model: nn.Module, batches: Iterable[Any], *, mask: Mask = None
) -> dict[str, Moments]:
    """Runs `batches` through the captured graph and sums up second moments, site by site.

    Sites that read the same values share one accumulator, and one tensor in the result. Memory:
    the accumulators (8 bytes per element up to 1024 inputs, 4 beyond), one batch's live values
    and one buffer of 32 MB.

    Args:
        capture: From `lilliput.model.capture.capture` on this model.
        model: The model; it is not changed.
        batches: Inputs as the model takes them: tensors, tuples or mappings.
        mask: Name of the input, or a function of the inputs, that gives (batch, positions); rows
            of positions where it is 0 are not counted.

    Raises:
        TaskError: There is no batch, or NaN or infinity flows into a site (named).
    """
    if capture.program is None:
        raise CaptureError("this capture has no graph")
    ledger = Ledger(capture)
    at = frozenset(use.where for use in capture.uses)
    seen = False
    with evaluating(model), torch.no_grad():
        for inputs in batches:
            seen = True
            found = mask_of(mask, inputs)
            positions = None if found is None else Positions(found, capture.program)
            watch = Watch(ledger, positions)
            run_graph(capture.program, model, arguments(inputs), visit=watch.visit, at=at)
    if not seen:
        raise TaskError("there are no calibration examples")
    return ledger.moments()


class Watch:
    """Feeds one batch's values into the ledger; values read twice are counted once per key."""

    def __init__(self, ledger: "Ledger", positions: Positions | None) -> None:
        self.ledger = ledger
        self.positions = positions
        self.done: set[tuple[Any, ...]] = set()

    def visit(self, node: fx.Node, args: tuple[Any, ...], value: Any) -> Any:
        """Counts what the weights at `node` are applied to."""
        for use in self.ledger.at[node.name]:
            key = self.ledger.keys[use]
            if key in self.done:
                continue
            self.done.add(key)
            source = next(
                (fed, given)
                for fed, given in zip(node.args, args, strict=True)
                if isinstance(fed, fx.Node) and fed.name == use.source
            )
            self.ledger.count(use, node, source, self.positions)
        return value


@dataclass
class Tally:
    """Accumulator behind one key."""

    gram: Gram | None = None
    frequencies: Tensor | None = None


class Ledger:
    """Accumulators of all sites; uses with the same source and layout share one."""

    def __init__(self, capture: Capture) -> None:
        self.sites = capture.sites
        self.uses = capture.uses
        self.at: dict[str, list[Use]] = {}
        self.keys: dict[Use, tuple[Any, ...]] = {}
        self.tallies: dict[tuple[Any, ...], Tally] = {}
        program = capture.program
        nodes = {} if program is None else {node.name: node for node in program.graph.nodes}
        for use in capture.uses:
            self.at.setdefault(use.where, []).append(use)
            self.keys[use] = _key(use, nodes[use.where], self.sites[use.site])
            self.tallies.setdefault(self.keys[use], Tally())

    def count(
        self,
        use: Use,
        node: fx.Node,
        source: tuple[fx.Node, Tensor],
        positions: Positions | None,
    ) -> None:
        """Adds one value to the accumulator of `use`."""
        tally, site = self.tallies[self.keys[use]], self.sites[use.site]
        fed, value = source
        if use.operation == "embedding":
            weights = None if positions is None else positions.weights(tuple(value.shape), fed)
            seen = torch.bincount(
                value.reshape(-1),
                weights=None if weights is None else weights.double(),
                minlength=site.rows,
            ).double()
            tally.frequencies = seen if tally.frequencies is None else tally.frequencies + seen
            return
        if use.operation == "conv":
            self._count_conv(tally, node, value, positions)
        else:
            rows = value.movedim(use.source_axis, -1)
            weights = None if positions is None else positions.weights(tuple(rows.shape[:-1]), fed)
            flat = rows.reshape(1, -1, rows.shape[-1])
            tally.gram = tally.gram or Gram(1, rows.shape[-1])
            _add(tally.gram, flat, weights)
        if tally.gram is not None and not tally.gram.finite:
            raise TaskError(
                f"NaN or infinity flows into {use.site}",
                "check the calibration examples and the model's weights",
            )

    def _count_conv(
        self, tally: Tally, node: fx.Node, value: Tensor, positions: Positions | None
    ) -> None:
        kernel, geometry = _geometry(node)
        batched = value if value.ndim == len(kernel) + 2 else value[None]
        view = patches(batched, kernel, **geometry)
        groups = int(geometry_groups(node))
        out = tuple(view.shape[: 1 + len(kernel)])
        weights = None if positions is None else positions.weights(out)
        for rows, which in patch_rows(view, groups):
            tally.gram = tally.gram or Gram(groups, rows.shape[-1])
            _add(tally.gram, rows, None if weights is None else weights[which])

    def moments(self) -> dict[str, Moments]:
        """What was gathered, per site; accumulators are turned to float32 one at a time."""
        done: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        for key, tally in self.tallies.items():
            if tally.gram is not None:
                mean = (tally.gram.total / max(1.0, tally.gram.count)).float()
                tally.gram.second = tally.gram.second.float()
                done[key] = (tally.gram.second, mean)
        return {name: self._moments_of(site, done) for name, site in self.sites.items()}

    def _moments_of(
        self, site: Site, done: dict[tuple[Any, ...], tuple[Tensor, Tensor]]
    ) -> Moments:
        keys = [self.keys[use] for use in self.uses if use.site == site.name]
        frequencies = [tally.frequencies for tally in map(self.tallies.__getitem__, keys)]
        looked_up = [seen for seen in frequencies if seen is not None]
        grams = [(self.tallies[key].gram, *done[key]) for key in keys if key in done]
        count = sum(gram.count for gram, _, _ in grams if gram is not None)
        second = mean = None
        if len(grams) == 1:
            second, mean = grams[0][1:]
        elif grams:
            second = torch.stack([found for _, found, _ in grams]).sum(0)
            mean = sum(
                found * (gram.count / max(1.0, count))
                for gram, _, found in grams
                if gram is not None
            )
        return Moments(
            second=second,
            count=round(count),
            mean=mean,
            frequencies=torch.stack(looked_up).sum(0) if looked_up else None,
        )


def _add(gram: Gram, rows: Tensor, weights: Tensor | None) -> None:
    """Adds rows, leaving out those that count zero times."""
    if weights is not None:
        keep = weights > 0
        rows, weights = rows[:, keep], weights[keep]
        weights = None if bool((weights == 1).all()) else weights
    if rows.shape[1]:
        gram.add(rows, weights)


def _key(use: Use, node: fx.Node, site: Site) -> tuple[Any, ...]:
    if use.operation == "conv":
        kernel, geometry = _geometry(node)
        shown = tuple(sorted((name, str(value)) for name, value in geometry.items()))
        return (use.source, "conv", kernel, shown, geometry_groups(node))
    if use.operation == "embedding":
        return (use.source, "embedding", site.rows)
    return (use.source, use.operation, use.source_axis)


def _geometry(node: fx.Node) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Kernel sizes, and stride, padding and dilation, of a convolution node."""
    weight = node.args[1] if len(node.args) > 1 else node.kwargs["weight"]
    kernel = tuple(int(size) for size in weight.meta["val"].shape[2:])  # type: ignore[union-attr]
    dims = len(kernel)

    def setting(position: int, name: str, default: int) -> Any:
        given = node.args[position] if len(node.args) > position else node.kwargs.get(name, default)
        if isinstance(given, str):
            return given
        values = [given] if isinstance(given, int) else list(given)  # type: ignore[call-overload]
        return tuple(values * dims if len(values) == 1 else values)

    return kernel, {
        "stride": setting(3, "stride", 1),
        "padding": setting(4, "padding", 0),
        "dilation": setting(5, "dilation", 1),
    }


def geometry_groups(node: fx.Node) -> int:
    """Groups of a convolution node."""
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    return int(groups)  # type: ignore[arg-type]
