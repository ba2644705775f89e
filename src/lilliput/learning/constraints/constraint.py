"""What a weight may be while it learns: the base of all constraints.

A constraint is a parametrization of torch: the model computes with ``forward(latent)``, and the
optimizer moves the latent weight and the constraint's own parameters. Its state is in the model's
state dict, and so in checkpoints.
"""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.utils import parametrize

from lilliput.model.encodings import Codebook, Encoding, Grid, Grouped
from lilliput.model.sites import Site

Learn = Literal["scales", "all"]


class Constraint(nn.Module):
    """What a weight may be. Without a step of learning it is what the encoding decodes to.

    Attributes:
        free: Whether the latent weight itself learns; otherwise only the constraint's parameters.
    """

    free = True

    def start(self) -> tuple[Tensor, ...]:
        """The latent tensors with which learning begins."""
        raise NotImplementedError

    def forward(self, *latents: Tensor) -> Tensor:
        """The weight as the model computes with it."""
        raise NotImplementedError

    def encoding(self, *latents: Tensor) -> Encoding:
        """What the weight is by now."""
        raise NotImplementedError

    def right_inverse(self, weight: Tensor) -> Any:
        """What torch keeps in the place of the weight: `start`, whatever the weight was."""
        found = tuple(one.to(weight.dtype) for one in self.start())
        return found if len(found) > 1 else found[0]


def straight(values: Tensor, rounded: Tensor) -> Tensor:
    """`rounded` to the bit, with the gradient of `values` (arXiv 1308.3432)."""
    return rounded.detach() + (values - values.detach())


def view_of(encoding: Grid | Grouped | Codebook) -> Site:
    """How the encoding's matrix lies in its parameter."""
    rows, columns = encoding.codes.shape
    shape = tuple(encoding.shape)
    return Site("", "matmul", shape, rows, columns, transposed=encoding.transposed)


def latents_of(found: Any) -> tuple[Tensor, ...]:
    """The latent tensors of a parametrized weight."""
    if found.is_tensor:
        return (found.original,)
    return tuple(getattr(found, f"original{place}") for place in range(found.ntensors))


def constrained(model: nn.Module) -> dict[str, tuple[Constraint, tuple[Tensor, ...]]]:
    """The constraints of a model by the names of their parameters, each with its latents.

    Of names that share one parameter the first is told.
    """
    found: dict[int, tuple[str, Any]] = {}
    for place, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for leaf, held in module.parametrizations.items():
                if isinstance(held[0], Constraint):
                    name = f"{place}.{leaf}" if place else leaf
                    found.setdefault(id(held), (name, held))
    return {name: (held[0], latents_of(held)) for name, held in found.values()}
