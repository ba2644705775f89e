"""What a site's weight became: the closed set that exporter, container and training dispatch on."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from lilliput.tensor.activations import LEVELS, uint8_grid
from lilliput.tensor.products import chained


@dataclass(frozen=True)
class Dense:
    """A weight kept as floating point.

    Attributes:
        weight: The parameter in its own shape and type.
    """

    weight: Tensor

    def decode(self) -> Tensor:
        """The weight as the model computes with it, in the parameter's shape."""
        return self.weight


@dataclass(frozen=True)
class Inputs:
    """How the numbers at one place of the model are rounded to uint8, while it runs.

    Attributes:
        step: Distance of the grid's points, positive; None: from the extremes of each call.
        zero: The code of 0, 0 to 255.
    """

    step: float | None = None
    zero: int = 0

    def rounded(self, values: Tensor) -> Tensor:
        """The values as the artifact computes with them: on the grid, clipped to its ends."""
        step, zero = (self.step, self.zero) if self.step is not None else _grid_of(values)
        codes = (values / step).round().add(zero).clamp(0, LEVELS)
        return (codes - zero) * step


@dataclass(frozen=True)
class Outliers:
    """Columns of a weight that stay float, since what they are multiplied with reaches too far.

    Attributes:
        places: (count,) int64, the columns.
        weight: (out, count) float32.
    """

    places: Tensor
    weight: Tensor


def _grid_of(values: Tensor) -> tuple[float, int]:
    if not values.numel():
        return 1.0, 0
    return uint8_grid((float(values.min()), float(values.max())))


@dataclass(frozen=True)
class Grid:
    """A weight on a uniform grid: ``codes * row_steps[:, None] * column_steps[None, :]``.

    Attributes:
        codes: Integers of the site's matrix view, (out, in), int8 where they fit, else int16.
        row_steps: Positive step per row, (out,), float32.
        column_steps: Positive factor per column, (in,), float32; None means ones.
        shape: Shape of the parameter.
        transposed: True where the parameter is stored (in, out), so that its matrix view is the
            transpose of ``parameter.reshape(in, -1)``; otherwise the view is
            ``parameter.reshape(out, -1)``.
        clipped: Number of codes that did not fit the code type and were clipped.
        inputs: How what the weight is multiplied with is rounded, after it was multiplied with
            `column_steps`; None: not at all.
        results: How what a convolution hands on is rounded, behind its BatchNorm and rectifier,
            where the runtime hands integers on.
        outliers: Columns that are float instead, their inputs too; their codes are 0.
        channels: (channels,) what the convolution before multiplies the channels with that it hands
            on to this one, before they are rounded; the weight is for channels as they were.
    """

    codes: Tensor
    row_steps: Tensor
    column_steps: Tensor | None
    shape: tuple[int, ...]
    transposed: bool = False
    clipped: int = 0
    inputs: Inputs | None = None
    results: Inputs | None = None
    outliers: Outliers | None = None
    channels: Tensor | None = None

    def decode(self) -> Tensor:
        """The weight as the model computes with it: float32, in the parameter's shape.

        The order of multiplication is part of the contract (the artifact does the same in fp32):
        first codes times row step, then times column factor.
        """
        matrix = self.codes.to(torch.float32) * self.row_steps[:, None]
        if self.column_steps is not None:
            matrix = matrix * self.column_steps[None, :]
        if self.outliers is not None:
            matrix = matrix.index_copy(1, self.outliers.places, self.outliers.weight)
        return _laid(matrix, self)


@dataclass(frozen=True)
class Grouped:
    """A weight of few bits: ``(codes - zeros) * steps``, with steps per row and group of columns.

    Attributes:
        codes: Integers of the site's matrix view, (out, in), uint8, below ``2**bits``.
        steps: Step per row and group, (out, groups), float32; column c is in ``c // group``.
        zeros: The code that means zero, (out, groups), uint8; None: ``2**(bits - 1)`` everywhere.
        bits: Width of a code, 2 to 8.
        group: Columns of a group, >= 1; the last group may have fewer.
        column_steps: Positive factor per column, (in,), float32; None means ones.
        shape: Shape of the parameter.
        transposed: As in `Grid`.
        clipped: Number of weights beyond the ends of their group's grid.
        packed: Whether the runnable file computes on packed codes, where its operators can, which
            needs little memory; otherwise the runtime decodes them once, when it loads the file.
    """

    codes: Tensor
    steps: Tensor
    zeros: Tensor | None
    bits: int
    group: int
    column_steps: Tensor | None
    shape: tuple[int, ...]
    transposed: bool = False
    clipped: int = 0
    packed: bool = True

    def decode(self) -> Tensor:
        """The weight as the model computes with it: float32, in the parameter's shape."""
        place = torch.arange(self.codes.shape[1]) // self.group
        zeros = torch.full_like(self.steps, 2.0 ** (self.bits - 1))
        if self.zeros is not None:
            zeros = self.zeros.to(torch.float32)
        matrix = (self.codes.to(torch.float32) - zeros[:, place]) * self.steps[:, place]
        if self.column_steps is not None:
            matrix = matrix * self.column_steps[None, :]
        return _laid(matrix, self)


@dataclass(frozen=True)
class Masked:
    """A weight of which some entries were removed: they are zero, and stay zero in training.

    Attributes:
        weight: The parameter in its own shape and type, zero off the mask.
        mask: bool, the same shape; True where the entry stays.
    """

    weight: Tensor
    mask: Tensor

    def decode(self) -> Tensor:
        """The weight as the model computes with it, in the parameter's shape."""
        return self.weight


@dataclass(frozen=True)
class Codebook:
    """A weight whose entries share a few values: ``values[codes] * row_steps[:, None]``.

    Attributes:
        codes: Indices of the site's matrix view, (out, in), uint8.
        values: Shared values in rising order, at most 256, float32.
        row_steps: What each row's values are multiplied with, (out,), float32.
        shape: Shape of the parameter.
        transposed: As in `Grid`.
    """

    codes: Tensor
    values: Tensor
    row_steps: Tensor
    shape: tuple[int, ...]
    transposed: bool = False

    def decode(self) -> Tensor:
        """The weight as the model computes with it: float32, in the parameter's shape."""
        matrix = self.values[self.codes.long()] * self.row_steps[:, None]
        return _laid(matrix, self)


@dataclass(frozen=True)
class LowRank:
    """A weight as a product of factors, in the order in which they meet the input.

    A linear map has two: (rank, in), then (out, rank). A convolution has a chain of convolutions,
    each with its factor in the layout of a convolution's weight; on every axis of the kernel at
    most one factor is longer than one. ``spatial``: (r, in, high, 1), (out, r, 1, wide).
    ``tucker2``: (r, in, 1, 1), (s, r, high, wide), (out, s, 1, 1). ``cp``: (r, in, 1, 1), the
    depthwise (r, 1, high, 1) and (r, 1, 1, wide), (out, r, 1, 1).

    Attributes:
        factors: Each with an encoding of its own.
        shape: Shape of the parameter.
        transposed: As in `Grid`.
    """

    factors: "tuple[Factor, ...]"
    shape: tuple[int, ...]
    transposed: bool = False

    def decode(self) -> Tensor:
        """The weight as the model computes with it: float32, in the parameter's shape.

        A runtime multiplies the input with one factor after the other, so its answers are those of
        this weight to rounding only.
        """
        return _laid(chained([factor.decode().float() for factor in self.factors]), self)


def factor_name(parameter: str, place: int) -> str:
    """What a factor is called where it is treated like a parameter of its own."""
    return f"{parameter}.factor{place}"


def _laid(matrix: Tensor, encoding: "Grid | Grouped | Codebook | LowRank") -> Tensor:
    """A matrix view in the parameter's shape."""
    turned = matrix.t() if encoding.transposed else matrix
    return turned.reshape(encoding.shape).contiguous()


Factor = Dense | Grid | Grouped | Masked | Codebook
Encoding = Factor | LowRank
Made = Mapping[str, Encoding]  # what earlier steps of a plan made of parameters, by name
NOTHING: Made = MappingProxyType({})


def parts_of(encoding: Encoding) -> tuple[Factor, ...]:
    """The factors of a product; of anything else itself."""
    return encoding.factors if isinstance(encoding, LowRank) else (encoding,)


def decoded(encodings: Mapping[str, Encoding], model: nn.Module) -> dict[str, Tensor]:
    """What the model computes with, by parameter, in the parameters' own types."""
    known = dict(model.named_parameters())
    return {name: found.decode().to(known[name].dtype) for name, found in encodings.items()}
