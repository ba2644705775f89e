"""The original, deaf to what goes, on its own graph: it answers as what is left will."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from lilliput.shapes.flow import flat, named_arguments
from lilliput.shapes.resize import Kept, smaller_call


class Deaf:
    """A model whose weights are partly replaced, as far as a graph asks for them."""

    def __init__(self, model: nn.Module, replaced: Mapping[str, Tensor]) -> None:
        self._model = model
        self._replaced = replaced

    def named_parameters(self, *, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        """As those of a module, those that are replaced replaced."""
        for name, value in self._model.named_parameters(remove_duplicate=remove_duplicate):
            yield name, self._replaced.get(name, value)

    def named_buffers(self, *, remove_duplicate: bool) -> Iterator[tuple[str, Tensor]]:
        """The same for buffers."""
        for name, value in self._model.named_buffers(remove_duplicate=remove_duplicate):
            yield name, self._replaced.get(name, value)


class Mixing:
    """Operators that mix what goes with what stays, taken over what stays."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        touched = [node for node, axis in kept.shape.flow.mixers if not kept.mask(axis).all()]
        self.at = frozenset(node.name for node in touched)

    def __call__(self, node: fx.Node, args: tuple[Any, ...], value: Any) -> Any:
        """The result over what stays, zeros where something went."""
        axes = self._kept.shape.flow.axes
        target, values = smaller_call(self._kept, node) or (node.target, named_arguments(node))
        given = dict(zip(pytree.tree_leaves(list(node.args)), pytree.tree_leaves(list(args))))  # noqa: B905
        filled = fx.node.map_arg(values, lambda one: self._kept.cut(given[one], flat(axes[one])))
        operator: Any = target
        found, places = operator(**filled), axes[node]
        if isinstance(places, tuple):
            return tuple(map(self._kept.spread, found, places))
        return self._kept.spread(found, places)
