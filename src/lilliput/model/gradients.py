"""The output side of the metric: what a site's output is worth to the model's output, label-free.

For an objective with output divergence D, the second moment of the gradient of D's root with
respect to a site's output estimates the Hessian on that side (K-FAC, arXiv 1503.05671; random
signs, which for classes go through a root of the Fisher information).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from lilliput.errors import TaskError
from lilliput.evaluation import evaluating
from lilliput.model.capture import Capture, calls_of
from lilliput.model.graph import run_graph
from lilliput.model.positions import Mask, Positions, mask_of
from lilliput.model.sites import Site
from lilliput.model.uses import Use

Pick = Callable[[Any], Tensor]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How the model's output is probed.

    Attributes:
        likelihood: What the output is: numbers (``gaussian``) or scores of classes on the last
            axis (``softmax``).
        draws: Random draws per batch, at least 1.
        seed: Of the draws.
    """

    likelihood: Literal["gaussian", "softmax"] = "gaussian"
    draws: int = 1
    seed: int = 0


_DEFAULT = Probe()
MOST_ENTRIES = 64_000_000  # of all row sides together: 256 MB


def observe_gradients(
    capture: Capture,
    model: nn.Module,
    batches: Iterable[Any],
    *,
    mask: Mask = None,
    pick: Pick | None = None,
    probe: Probe = _DEFAULT,
) -> dict[str, Tensor]:
    """Second moments of label-free output gradients; few examples are enough.

    With ``gaussian`` the gradient is that of <output, v> for random signs v, whose expected outer
    product is JᵀJ: the curvature of the squared output error. With ``softmax`` the signs go
    through a root of diag(p) - p pᵀ first, which makes it the Fisher information, the curvature of
    KL, p being the model's answer. Memory: one batch's
    activations, as in training without parameters' gradients, and the matrices.

    Args:
        capture: A graph capture.
        model: The model; it is not changed, and its parameters get no gradients.
        batches: Inputs, in small batches.
        mask: As in `lilliput.model.observe.observe`; masked positions count neither at the sites
            nor, where the output has the mask's axes, in the objective.
        pick: Picks the output that counts, e.g. ``task.pick``; by default the first float tensor.
            For the capture of a part it is applied to the part's output.
        probe: How it is probed.

    Returns:
        Site name -> mean over positions of g gᵀ: (rows, rows), (columns, columns) for an embedding,
        or only its diagonal, (rows,), for a convolution and where all matrices together
        would have more than `MOST_ENTRIES` (the smallest come first). Positions whose gradient is
        NaN or infinite are left out. Recurrent sites and captures without a graph have none.

    Raises:
        TaskError: There is no batch.
    """
    worth = _Worth(capture)
    if capture.program is None or not worth.at:
        return {}
    generator = torch.Generator().manual_seed(probe.seed)
    batch_count = 0
    with evaluating(model), torch.enable_grad():
        for inputs in batches:
            batch_count += 1
            found = mask_of(mask, inputs)
            worth.positions = None if found is None else Positions(found, capture.program)
            for call in calls_of(capture, model, inputs):
                part, at = capture.captured(model), frozenset(worth.at)
                raw = run_graph(capture.graph, part, call, visit=worth.visit, at=at)
                output = (pick or first_float)(raw)
                _send_back(output, probe, mask=found, generator=generator)
    if not batch_count:
        raise TaskError("there are no examples for the output gradients")
    return worth.means()


class _Worth:
    """Sums of gradient products per site, filled by hooks on the sites' outputs."""

    def __init__(self, capture: Capture) -> None:
        self.sites = capture.sites
        self.at: dict[str, list[Use]] = {}
        for use in capture.uses:
            site = capture.sites[use.site]
            if use.operation == "embedding" or (
                use.operation != "recurrent" and site.kind != "embedding"
            ):
                self.at.setdefault(use.where, []).append(use)
        named = {use.site for uses in self.at.values() for use in uses}
        self.whole = whole_sides([self.sites[name] for name in self.sites if name in named])
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        self.positions: Positions | None = None

    def visit(self, node: fx.Node, args: tuple[Any, ...], value: Tensor) -> Tensor:
        """Makes sure that a gradient reaches the value, and listens for it."""
        if not value.requires_grad:
            value = value.detach().requires_grad_()
        value = value.clone()  # neither a leaf nor a view: the model may write to it in place
        for use in self.at[node.name]:
            weights = self._weights(use, node, value)
            value.register_hook(_listener(self, use, weights))  # type: ignore[no-untyped-call]
        return value

    def _weights(self, use: Use, node: fx.Node, value: Tensor) -> Tensor | None:
        if self.positions is None:
            return None
        rows = use.outputs(value)
        return self.positions.weights(tuple(rows.shape[:-1]), node.name if rows is value else "")

    def add(self, use: Use, gradient: Tensor, weights: Tensor | None) -> None:
        """Adds the gradient of one use's output."""
        rows = use.outputs(gradient).flatten(0, -2).float()  # (n, out)
        if weights is not None:
            rows = rows[weights > 0]
        rows = rows[torch.isfinite(rows).all(1)]  # a square root at zero has no slope there
        site = self.sites[use.site]
        outputs = site.columns if use.operation == "embedding" else site.rows
        index = slice(None) if use.row_index is None else use.row_index.long()
        count = self.counts.setdefault(use.site, torch.zeros(outputs, dtype=torch.float64))
        count[index] += float(rows.shape[0])
        if use.operation == "embedding" or use.site in self.whole:
            total = self.sums.setdefault(use.site, torch.zeros(outputs, outputs))
            if use.row_index is None:
                total.addmm_(rows.t(), rows)
            else:
                total[use.row_index.long()[:, None], index] += rows.t() @ rows
        else:
            total = self.sums.setdefault(use.site, torch.zeros(outputs, dtype=torch.float64))
            total[index] += rows.double().square().sum(0)

    def means(self) -> dict[str, Tensor]:
        """Sums divided by rows, float32; a site without any finite gradient has none."""
        found = {}
        for name, total in self.sums.items():
            if not bool((self.counts[name] > 0).all()):
                continue
            count = self.counts[name].clamp_min(1.0)
            if total.ndim == 2:
                root = count.sqrt().float()
                found[name] = total.div_(root[:, None]).div_(root)
            else:
                found[name] = (total / count).float()
        return {name: found[name] for name in self.sites if name in found}


def whole_sides(sites: Sequence[Site]) -> frozenset[str]:
    """Sites whose whole row side is kept, the smallest first, up to `MOST_ENTRIES` in all.

    Not convolutions: an error is the same at all positions of a feature map and adds up over them,
    which the mean over positions does not show.
    """
    found, entries = set(), 0
    able = [site for site in sites if site.kind not in ("embedding", "conv")]
    for site in sorted(able, key=lambda site: site.rows):
        entries += site.rows**2
        if entries <= MOST_ENTRIES:
            found.add(site.name)
    return frozenset(found)


def _listener(worth: _Worth, use: Use, weights: Tensor | None) -> Callable[[Tensor], None]:
    def listen(gradient: Tensor) -> None:
        worth.add(use, gradient.detach(), weights)

    return listen


def first_float(raw: Any) -> Tensor:
    """The first floating-point tensor of an output.

    Raises:
        TaskError: There is none.
    """
    for leaf in pytree.tree_leaves(raw):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return leaf
    raise TaskError("the model returns no floating-point tensor")


def _send_back(
    output: Tensor, probe: Probe, *, mask: Tensor | None, generator: torch.Generator
) -> None:
    if not output.requires_grad:
        raise TaskError("the output that counts does not depend on any weight that can change")
    for left in reversed(range(probe.draws)):
        objective = (
            output.float() * direction(output, probe, mask=mask, generator=generator)
        ).sum()
        torch.autograd.backward(objective, retain_graph=left > 0)


@torch.no_grad()
def direction(
    output: Tensor, probe: Probe, *, mask: Tensor | None, generator: torch.Generator
) -> Tensor:
    """One random direction in the space of the output, (N, ...) as the output.

    Args:
        output: The model's output.
        probe: What it is.
        mask: (N, positions) that count; None: all.
        generator: Draws the signs.
    """
    found = torch.randint(0, 2, output.shape, generator=generator).float() * 2 - 1
    if probe.likelihood == "softmax":
        root = output.detach().float().softmax(-1).sqrt()
        found = root * (found - root * (root * found).sum(-1, keepdim=True))
    if mask is not None and output.ndim > 2 and output.shape[:2] == mask.shape:
        found *= mask.reshape(*mask.shape, *[1] * (output.ndim - 2))
    return found
