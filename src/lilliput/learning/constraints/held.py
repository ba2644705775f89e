"""Floating-point weights that learn: in half precision where they were, zero where removed."""

import torch
from torch import Tensor

from lilliput.learning.constraints.constraint import Constraint, Learn, straight
from lilliput.model.encodings import Dense, Masked

_SHORT = (torch.float16, torch.bfloat16)


class Held(Constraint):
    """A weight of floating point.

    Where every number of it fits half precision exactly, it does so in training too, since such
    numbers cost two bytes; and what a mask removed stays zero.

    Args:
        encoding: Dense or masked.
        learn: With ``scales`` only weights with one axis learn: biases and norms.
    """

    mask: Tensor | None

    def __init__(self, encoding: Dense | Masked, *, learn: Learn) -> None:
        super().__init__()
        weight = encoding.decode().detach()
        self._began, self.short = weight, short_type(weight)
        self.free = learn == "all" or weight.ndim <= 1
        mask = encoding.mask if isinstance(encoding, Masked) else None
        self.register_buffer("mask", mask)

    def start(self) -> tuple[Tensor, ...]:
        """The weight itself."""
        return (self._began.clone(),)

    def forward(self, *latents: Tensor) -> Tensor:
        """Rounded and masked."""
        (weight,) = latents
        if self.short is not None:
            weight = straight(weight, weight.to(self.short).to(weight.dtype))
        return weight if self.mask is None else weight * self.mask

    def encoding(self, *latents: Tensor) -> Dense | Masked:
        """As it began: dense, or masked with the same mask."""
        weight = self.forward(*latents).detach().clone()
        return Dense(weight) if self.mask is None else Masked(weight, self.mask.clone())


def short_type(weight: Tensor) -> torch.dtype | None:
    """The shorter type that holds every number exactly; None where there is none."""
    for kind in _SHORT:
        if weight.dtype.itemsize > kind.itemsize and torch.equal(
            weight.to(kind).to(weight.dtype), weight
        ):
            return kind
    return None
