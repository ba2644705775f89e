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
        rows = x.movedim(1, -1) if self.second else x
        added: Tensor = self.linear(rows)
        return x + (added.movedim(-1, 1) if self.second else added)


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer


class SharedHeads(nn.Module):
    """A projection with fewer heads than what reads it: each is given to several of those.

    Args:
        linear: The projection, to ``heads * size`` outputs.
        times: How often each head is given.
        size: Outputs of a head.
    """

    def __init__(self, linear: nn.Linear, *, times: int, size: int) -> None:
        super().__init__()
        self.linear = linear
        self.times = times
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(..., heads * times * size)."""
        heads = self.linear(x).unflatten(-1, (-1, self.size))
        shared: Tensor = heads.repeat_interleave(self.times, -2).flatten(-2)
        return shared


class ShiftedRMSNorm(nn.RMSNorm):
    """A root-mean-square norm with a bias, which stands for a layer norm of centred inputs.

    Args:
        size: Length of the last axis.
        eps: Added to the mean square.
        weight: (size,).
        bias: (size,).
    """

    def __init__(self, size: int, eps: float, *, weight: Tensor, bias: Tensor) -> None:
        super().__init__(size, eps=eps)
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape."""
        normed: Tensor = super().forward(x)
        return normed + self.bias
