"""Weights that are products: the factors learn, each under its own constraint."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from lilliput.learning.constraints.constraint import Constraint, Learn
from lilliput.model.encodings import LowRank
from lilliput.tensor.products import chained


class InFactors(Constraint):
    """A weight of low rank, or a chain of convolutions, held by its factors.

    Args:
        product: What the weight begins as.
        parts: The factors' constraints, in their order.
        learn: As for `OnGrid`.
    """

    def __init__(self, product: LowRank, parts: Sequence[Constraint], *, learn: Learn) -> None:
        super().__init__()
        self.free = learn == "all"
        self._product = product
        self.parts = nn.ModuleList(parts)

    def start(self) -> tuple[Tensor, ...]:
        """One latent tensor per factor."""
        return tuple(latent for part in self._constraints for latent in part.start())

    def forward(self, *latents: Tensor) -> Tensor:
        """The product of the factors, in the parameter's layout."""
        pairs = zip(self._constraints, latents, strict=True)
        matrix = chained([part(latent).float() for part, latent in pairs])
        turned = matrix.t() if self._product.transposed else matrix
        return turned.reshape(self._product.shape).contiguous().to(latents[0].dtype)

    def encoding(self, *latents: Tensor) -> LowRank:
        """Each factor by now."""
        pairs = zip(self._constraints, latents, strict=True)
        factors = tuple(part.encoding(latent) for part, latent in pairs)
        return replace(self._product, factors=factors)  # type: ignore[arg-type]

    @property
    def _constraints(self) -> list[Constraint]:
        return [part for part in self.parts if isinstance(part, Constraint)]
