"""Weights kept in fewer bytes and widened when a layer reads them: for models that only answer."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lilliput.tensor.grids import absolute_maximum_steps, round_to_grid

Precision = Literal["float32", "bfloat16", "float16", "int8"]
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST = 256  # weights with fewer elements stay as they are
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


class _Half(nn.Module):
    """A weight as half-precision numbers."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, stored: Tensor) -> Tensor:
        """As the layer reads it."""
        return stored.float()

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        """As it is stored."""
        return (weight.to(self.kind),)


class _Integers(nn.Module):
    """A weight as int8 codes with a step per row."""

    def forward(self, codes: Tensor, steps: Tensor) -> Tensor:
        """As the layer reads it."""
        return codes * steps

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """As it is stored."""
        rows = weight.flatten(1)
        steps = absolute_maximum_steps(rows, 8)[:, None]
        codes = round_to_grid(rows, steps).to(torch.int8)
        return codes.reshape(weight.shape), steps.reshape(-1, *[1] * (weight.ndim - 1))


def lightened(model: nn.Module, precision: Precision) -> nn.Module:
    """A copy that computes in float32 from weights of fewer bytes; it cannot be trained.

    Weights of linear layers, convolutions, embeddings and attention are stored so; each is widened
    while its layer runs. ``int8`` rounds to 8 bits with a step per row.

    Args:
        model: It is left as it was; ``float32`` gives it back itself.
        precision: What the weights are kept in.
    """
    if precision == "float32":
        return model
    light = copy.deepcopy(model).requires_grad_(False).eval()
    for module in list(light.modules()):
        leaf = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
        weight = getattr(module, leaf, None)
        known = isinstance(module, (*_LAYERS, nn.MultiheadAttention))
        if known and isinstance(weight, Tensor) and _worth_it(weight):
            half = HALVES.get(precision)
            kept = _Integers() if half is None else _Half(half)
            parametrize.register_parametrization(module, leaf, kept, unsafe=True)
    return light


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of the parameters as they are stored, ties once."""
    return sum(one.numel() * one.element_size() for one in model.parameters())


def _worth_it(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and weight.numel() >= SMALLEST
