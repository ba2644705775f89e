"""Modules that take the place of others in a user's class: plain attributes, so they reload."""

from typing import Any

from torch import Tensor, nn


class StandIn(nn.Module):
    """Is called as the block that it replaces, and returns in the same structure.

    Args:
        instead: What is done to the stream; `nn.Identity` where the block was dropped.
        argument: Position or keyword by which the block is given the stream.
        place: Where in a returned tuple the stream is; None where it is returned alone.
        count: Length of that tuple; its other entries are None.
    """

    def __init__(
        self, instead: nn.Module, argument: int | str, *, place: int | None = None, count: int = 0
    ) -> None:
        super().__init__()
        self.instead = instead
        self.argument = argument
        self.place = place
        self.count = count

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the block would return."""
        given = kwargs[self.argument] if isinstance(self.argument, str) else args[self.argument]
        result = self.instead(given)
        if self.place is None:
            return result
        return tuple(result if n == self.place else None for n in range(self.count))


class LinearStream(nn.Module):
    """``x + A x + b`` along the last axis, or along the second where channels lie there.

    Args:
        factors: A as a product, first to last: (rank, channels) and (channels, rank), or A alone.
        bias: b, (channels,).
        second: Whether the channels are the second axis.
    """

    def __init__(self, factors: list[Tensor], bias: Tensor, *, second: bool) -> None:
        super().__init__()
        self.second = second
        self.linear = nn.Sequential(*(_linear(factor) for factor in factors[:-1]))
        self.linear.append(_linear(factors[-1], bias))

    def forward(self, x: Tensor) -> Tensor:
        """The stream with its linear image added."""
        if self.second:
            return x + self.linear(x.movedim(1, -1)).movedim(-1, 1)
        added: Tensor = x + self.linear(x)
        return added


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer
