"""One streaming pass over calibration examples: second moments of what goes into every site."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from torch import Tensor, fx, nn

from lilliput.errors import TaskError
from lilliput.evaluation import evaluating
from lilliput.model.capture import Capture, calls_of
from lilliput.model.chains import absorbed, handed_on
from lilliput.model.graph import run_graph
from lilliput.model.modules import observe_modules
from lilliput.model.moments import Moments
from lilliput.model.positions import Mask, Positions, mask_of
from lilliput.model.sources import sources_at
from lilliput.model.sums import Sums, weights_of


class Transparent(Protocol):
    """A module that shows what its weights are applied to by itself."""

    def inside(self, inputs: Any) -> Iterator[tuple[Any, Mapping[str, Tensor]]]:
        """Parts of a batch, and for each the values by the uses' sources and results."""
        ...


def observe(
    capture: Capture,
    model: nn.Module,
    batches: Iterable[Any],
    *,
    mask: Mask = None,
    most_positions: int = 1024,
) -> dict[str, Moments]:
    """Runs `batches` through the model and sums up second moments, site by site.

    Sites that read the same values share one accumulator, and one tensor in the result. Memory:
    the accumulators (8 bytes per element up to 1024 inputs, 4 beyond), one batch's live values
    and one buffer of 32 MB.

    Args:
        capture: From `lilliput.model.capture` on this model.
        model: The model; it is not changed.
        batches: Inputs as the model takes them: tensors, tuples or mappings.
        mask: Name or position of the input, or a function of the inputs, that gives
            (batch, positions); rows of positions where it is 0 are not counted.
        most_positions: Of a larger feature map an evenly spaced part of about so many positions
            per example is counted; neighbours say nearly the same.

    Returns:
        Moments of every site of the capture, in its order.

    Raises:
        TaskError: There is no batch, or NaN or infinity flows into a site (named).
    """
    sums = Sums(capture.sites, capture.uses, most_positions=most_positions)
    batch_count = 0
    with evaluating(model):
        for inputs in batches:
            batch_count += 1
            found = mask_of(mask, inputs)
            if capture.how == "onnx":
                _observe_inside(sums, cast(Transparent, model), inputs, mask=mask)
            elif capture.program is None:
                observe_modules(sums, model, inputs=inputs, mask=found)
            else:
                _observe_graph(sums, capture, model=model, inputs=inputs, mask=found)
    if not batch_count:
        raise TaskError("there are no calibration examples")
    alone = absorbed(capture)
    return {n: replace(m, absorbed=n in alone) for n, m in sums.moments().items()}


def _observe_graph(
    sums: Sums, capture: Capture, *, model: nn.Module, inputs: Any, mask: Tensor | None
) -> None:
    positions = None if mask is None else Positions(mask, capture.program)
    results = handed_on(capture)
    part, program = capture.captured(model), capture.graph
    for call in calls_of(capture, model, inputs):
        watch = _Watch(sums, positions, results)
        run_graph(program, part, call, visit=watch.visit, at=frozenset(sums.at).union(results))


def _observe_inside(sums: Sums, model: Transparent, inputs: Any, *, mask: Mask) -> None:
    for part, values in model.inside(inputs):
        found = mask_of(mask, part)
        positions = None if found is None else Positions(found)
        done: set[Hashable] = set()
        for use in sums.uses:
            result = values.get(use.result)
            if result is not None:
                sums.count_output(use.site, result)
            source = values.get(use.source)
            if source is not None and use.key not in done:
                done.add(use.key)
                sums.count(use, source, weights_of(use, source, positions))


class _Watch:
    """Feeds one call's values into the sums; values that several sites read are counted once."""

    def __init__(self, sums: Sums, positions: Positions | None, results: Mapping[str, str]) -> None:
        self.sums = sums
        self.positions = positions
        self.results = results
        self.done: set[Hashable] = set()

    def visit(self, node: fx.Node, args: tuple[Any, ...], value: Any) -> Any:
        """Counts what the weights at `node` are applied to."""
        if node.name in self.results:
            self.sums.count_output(self.results[node.name], value)
        uses = [use for use in self.sums.at.get(node.name, ()) if use.key not in self.done]
        sources = sources_at(node, args, uses)
        for use in uses:
            if use.key not in self.done:
                self.done.add(use.key)
                source = sources[use]
                weights = weights_of(use, source, self.positions)
                self.sums.count(use, source, weights)
        return value
