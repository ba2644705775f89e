"""How much of a model learns: its head, its last blocks, all of it, or adapters beside it."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from lilliput.errors import TrainingError
from lilliput.learning.adapters import add_adapters
from lilliput.model.capture import Capture, capture, capture_or_hooks
from lilliput.shapes.blocks import blocks_of, outermost

_WHOLE = ("all", "head", "last", "adapters")


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How much of a model learns.

    Attributes:
        part: ``all``; ``head``: the layer whose product is used last; ``last``: everything from the
            `last`-th block before the end on; ``adapters``: products of low rank beside the weights
            of linear layers (of convolutions where there are none); or names of modules, separated
            by commas.
        last: Blocks that learn, at least 1; of a model without blocks layers.
        rank: Of adapters, at least 1.
        scale: What an adapter's product is multiplied with, above 0.

    Raises:
        TrainingError: A number is out of range.
    """

    part: str = "all"
    last: int = 1
    rank: int = 8
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("last", "rank"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise TrainingError(
                    f"{name} = {value!r} is out of range", "allowed is [1, inf), the nearest is 1"
                )
        if not self.scale > 0:
            raise TrainingError(f"scale = {self.scale:g} is out of range", "allowed is (0, inf)")


def take_reach(model: nn.Module, reach: Reach, *, inputs: Any, seed: int) -> str:
    """Sets which parameters of a model require gradients, in place.

    Args:
        model: Changed in place.
        reach: How much of it learns.
        inputs: One example batch.
        seed: Of adapters.

    Returns:
        What learns, in words.

    Raises:
        CaptureError: Blocks are asked for, and the model cannot be captured.
        TrainingError: There is no such module.
    """
    if reach.part == "all":
        model.requires_grad_(True)
        return "all weights"
    if reach.part == "adapters":
        sites = _adapted(capture_or_hooks(model, inputs))
        add_adapters(model, sites, rank=reach.rank, scale=reach.scale, seed=seed)
        return f"adapters of rank {reach.rank} beside {len(sites)} weights"
    if reach.part == "last":
        names = _after_last(model, reach.last, inputs)
    elif reach.part == "head":
        names = _inside(model, (head_of(model, inputs),))
    else:
        names = _inside(model, tuple(part.strip() for part in reach.part.split(",")))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    return f"{len(names)} tensors of {reach.part}"


def head_of(model: nn.Module, inputs: Any) -> str:
    """Name of the module whose weight is used last.

    Raises:
        TrainingError: No product with a weight was found.
    """
    order = _matrices_in_order(model, inputs)
    if not order:
        raise TrainingError("the model has no layer that could be its head", "name its modules")
    return order[-1].rpartition(".")[0]


def _matrices_in_order(model: nn.Module, inputs: Any) -> list[str]:
    """Weights with two axes or more, in the order in which the graph last reads them.

    Without a graph it is the order in which the model names them.
    """
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    captured = capture_or_hooks(model, inputs)
    if captured.how != "graph":
        return [name for name, axes in shapes.items() if axes > 1]
    read = _uses(captured)
    return sorted((n for n in read if shapes.get(n, 0) > 1), key=lambda name: read[name][-1])


def new_head(model: nn.Module, classes: int, *, inputs: Any, seed: int) -> str:
    """Puts a fresh linear or convolutional layer with `classes` outputs in the head's place.

    Returns:
        The head's name.

    Raises:
        TrainingError: The head is no such layer, or its weight is also used elsewhere.
    """
    name = head_of(model, inputs)
    head = model.get_submodule(name)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise TrainingError(f"classes = {classes!r} is out of range", "at least 2")
    if not isinstance(head, nn.Linear | nn.Conv1d | nn.Conv2d) or getattr(head, "groups", 1) > 1:
        raise TrainingError(
            f"the head {name or 'of the model'} is a {type(head).__name__}",
            "a linear layer or a convolution gets a new number of classes by itself; "
            "put another head in its place before",
        )
    if not name:
        raise TrainingError("the model is nothing but its head", "wrap it in a module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = _like(head, classes)
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, fresh.to(head.weight.dtype))
    return name


def _like(head: nn.Linear | nn.Conv1d | nn.Conv2d, classes: int) -> nn.Module:
    bias = head.bias is not None
    if isinstance(head, nn.Linear):
        return nn.Linear(head.in_features, classes, bias=bias)
    kind: Any = type(head)
    fresh: nn.Module = kind(
        head.in_channels,
        classes,
        head.kernel_size,
        stride=head.stride,
        padding=head.padding,
        dilation=head.dilation,
        bias=bias,
    )
    return fresh


def _adapted(captured: Capture) -> tuple[str, ...]:
    for kinds in (("linear", "matmul"), ("conv",)):
        names = tuple(name for name, site in captured.sites.items() if site.kind in kinds)
        if names:
            return names
    raise TrainingError("no weight takes an adapter", "train all weights, or name modules")


def _inside(model: nn.Module, modules: tuple[str, ...]) -> set[str]:
    known = dict(model.named_modules())
    for name in modules:
        if name not in known:
            close = get_close_matches(name, (*_WHOLE, *known), n=1)
            raise TrainingError(
                f"the model has no module {name!r}", f"the nearest is {close[0]}" if close else ""
            )
    return {
        name
        for name, _ in model.named_parameters()
        if any(name.startswith(f"{module}.") or not module for module in modules)
    }


def _after_last(model: nn.Module, count: int, inputs: Any) -> set[str]:
    """Parameters that are first used in the last blocks, or behind them."""
    captured = capture(model, inputs)
    first = {name: places[0] for name, places in _uses(captured).items()}
    places = {node.name: place for place, node in enumerate(captured.graph.graph.nodes)}
    blocks = outermost(blocks_of(captured))
    begins = [min(places[node] for node in block.inside) for block in blocks]
    if not begins:
        begins = [first[name] for name in _matrices_in_order(model, inputs)]
    start = sorted(begins)[-min(count, len(begins))]
    return {name for name, place in first.items() if place >= start}


def _uses(captured: Capture) -> dict[str, list[int]]:
    """Parameter -> places of the nodes that read it, in the order of the graph."""
    held = captured.graph.graph_signature.inputs_to_parameters
    places = {node.name: place for place, node in enumerate(captured.graph.graph.nodes)}
    return {
        held[node.name]: sorted(places[user.name] for user in node.users)
        for node in captured.graph.graph.nodes
        if node.name in held and node.users
    }
