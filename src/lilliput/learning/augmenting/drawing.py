"""Random numbers of one generator, one per example, in the type and place of a tensor."""

import torch
from torch import Tensor


def uniform(generator: torch.Generator, ends: tuple[float, float], *, like: Tensor) -> Tensor:
    """A number from the first end up to the second per example, (N,)."""
    drawn = torch.rand(len(like), generator=generator, device=generator.device)
    low, high = ends
    return (low + (high - low) * drawn).to(like)


def whole(generator: torch.Generator, ends: tuple[int, int], *, like: Tensor) -> Tensor:
    """A whole number between two ends, both included, per example, (N,) int64."""
    low, high = ends
    size = (len(like),)
    drawn = torch.randint(low, high + 1, size, generator=generator, device=generator.device)
    return drawn.to(like.device)


def normal(generator: torch.Generator, *, like: Tensor) -> Tensor:
    """Standard normal noise in the shape of a tensor."""
    return torch.randn(like.shape, generator=generator, device=generator.device).to(like)


def chosen(chance: float, generator: torch.Generator, *, shape: tuple[int, ...]) -> Tensor:
    """True with a chance, independently at each place; on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device) < chance


def shuffled(generator: torch.Generator, *, like: Tensor) -> Tensor:
    """The places of all examples in another order, (N,) int64."""
    order = torch.randperm(len(like), generator=generator, device=generator.device)
    return order.to(like.device)


def each(values: Tensor, like: Tensor) -> Tensor:
    """A value per example so shaped that it meets all of that example's numbers, (N, 1, ...)."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))
