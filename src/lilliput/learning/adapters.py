"""Adapters of low rank: a weight stays as it is and learns a small product beside it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Adapter(nn.Module):
    """``weight + scale * up @ down`` (LoRA: Hu et al. 2021, arXiv 2106.09685).

    Args:
        weight: Of shape (out, ...); its further axes count as one.
        rank: Of the product.
        scale: What the product is multiplied with.
        generator: Draws `down`; `up` begins at zero, so that nothing changes at first.
    """

    def __init__(
        self, weight: Tensor, *, rank: int, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        bound = math.sqrt(3 / columns)
        drawn = torch.rand(rank, columns, generator=generator) * 2 - 1
        self.down = nn.Parameter((drawn * bound).to(weight.dtype))
        self.up = nn.Parameter(torch.zeros(rows, rank, dtype=weight.dtype))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the model computes with it."""
        return weight + self.scale * (self.up @ self.down).reshape(weight.shape)


def add_adapters(
    model: nn.Module, names: Iterable[str], *, rank: int, scale: float, seed: int
) -> None:
    """Puts adapters beside the named weights, in place; nothing else requires gradients then.

    Args:
        model: Changed in place.
        names: Qualified names of weights with two axes or more.
        rank: Of each, at most what the weight has.
        scale: See `Adapter`.
        seed: Of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name in names:
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        weight: Tensor = getattr(module, leaf)
        most = min(len(weight), weight[0].numel())
        adapter = Adapter(weight, rank=min(rank, most), scale=scale, generator=generator)
        parametrize.register_parametrization(module, leaf, adapter)


def merge_adapters(model: nn.Module) -> None:
    """Adds what adapters learned to the weights and removes them, in place."""
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for leaf in list(module.parametrizations):  # type: ignore[arg-type]
                if isinstance(module.parametrizations[leaf][0], Adapter):  # type: ignore[index]
                    parametrize.remove_parametrizations(module, leaf)
    model.requires_grad_(True)
