"""Inputs of layers, rounded in training as the artifact will round them, with a learned step.

LSQ for activations and its offset: Bhalgat et al. 2020, arXiv 2004.09576; here the code of zero
stands still, since a runtime stores it as an integer.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lilliput.learning.constraints.constraint import straight
from lilliput.model.encodings import Grid, Inputs
from lilliput.tensor.activations import LEVELS, uint8_grid

_NAME = "rounded_inputs"


class Rounding(nn.Module):
    """A uint8 grid for the numbers at one place of the model.

    Args:
        inputs: The grid at first; without a step it is made anew from each call's extremes.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._first = inputs
        self.growth = nn.Parameter(torch.zeros(()), requires_grad=inputs.step is not None)

    def forward(self, values: Tensor) -> Tensor:
        """On the grid, clipped to its ends, with gradients for values and step."""
        step, zero = self._grid(values)
        inside = (values / step + zero).clamp(0, LEVELS)
        codes = straight(inside, inside.round()) - zero
        rounded: Tensor = codes * step
        return rounded

    @property
    def inputs(self) -> Inputs:
        """The grid by now."""
        if self._first.step is None or not float(self.growth.detach()):
            return self._first
        return Inputs(float(self._first.step * self.growth.detach().exp()), self._first.zero)

    def _grid(self, values: Tensor) -> tuple[Any, int]:
        if self._first.step is not None:
            return self._first.step * self.growth.exp(), self._first.zero
        if not values.numel():
            return 1.0, 0
        return uint8_grid((float(values.min()), float(values.max())))


class RoundedInputs(nn.Module):
    """What stands before a layer whose inputs are rounded.

    Args:
        rounding: The grid; layers that read the same values share one.
        factors: What the inputs are multiplied with before and divided by after, shaped to
            broadcast over them; None for ones.
        floats: Where they stay float, likewise; None for nowhere.
    """

    factors: Tensor | None
    floats: Tensor | None

    def __init__(
        self, rounding: Rounding, *, factors: Tensor | None, floats: Tensor | None
    ) -> None:
        super().__init__()
        self.rounding = rounding
        self.register_buffer("factors", factors)
        self.register_buffer("floats", floats)

    def forward(self, values: Tensor) -> Tensor:
        """The values as the layer reads them."""
        scaled = values if self.factors is None else values * self.factors
        found = self.rounding(scaled)
        found = found if self.factors is None else found / self.factors
        return found if self.floats is None else torch.where(self.floats, values, found)


def round_inputs(layer: nn.Module, grid: Grid, *, rounding: Rounding) -> bool:
    """Rounds what a layer reads from now on; whether it is one that can be.

    Args:
        layer: A linear layer or a convolution; any other is left as it is.
        grid: What became of its weight.
        rounding: The grid of its inputs.
    """
    if isinstance(layer, nn.Linear):
        factors, floats = grid.column_steps, None
        if grid.outliers is not None:
            floats = torch.zeros(layer.in_features, dtype=torch.bool)
            floats[grid.outliers.places] = True
    elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if grid.column_steps is not None and grid.channels is None:
            return False  # the artifact computes it in float
        ones = [1] * (layer.weight.ndim - 2)
        factors = None if grid.channels is None else grid.channels.reshape(-1, *ones)
        floats = None
    else:
        return False
    layer.add_module(_NAME, RoundedInputs(rounding, factors=factors, floats=floats))
    layer.register_forward_pre_hook(_before)
    return True


def _before(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    rounded = layer.get_submodule(_NAME)
    return (rounded(given[0]), *given[1:])
