"""What static and dynamic rounding of activations have in common: int8 weights, and the damage."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Encoding, Grid, Made, Outliers
from lilliput.model.profiles import SMALLEST_WORTH, Profile, SiteProfile
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import mask_of, weight_left
from lilliput.techniques.grid_storage import as_grid
from lilliput.tensor.feedback import Rounding, feedback_codes
from lilliput.tensor.grids import absolute_maximum_steps, clipped_steps, round_to_grid
from lilliput.tensor.row_steps import best_steps
from lilliput.tensor.second_order import apart, inverse_factor, layer_damage

PRODUCTS = frozenset({"linear", "matmul"})
SHORT = 256  # weights of a row up to which its step matters much


class Weights(NamedTuple):
    """How weights become int8.

    Attributes:
        bits: Width of the codes, 7 or 8.
        per_channel: A step for each output, else one for the site.
        feedback: Weights still to come absorb the rounding errors.
    """

    bits: int
    per_channel: bool
    feedback: bool


class Noise(NamedTuple):
    """What rounding activations adds around a site.

    Attributes:
        inputs: Variance of the error of one rounded input.
        results: The same of one rounded result, its BatchNorm applied.
    """

    inputs: float = 0.0
    results: float = 0.0


def int8_grid(
    profile: Profile,
    name: str,
    *,
    weights: Weights,
    columns: Tensor | None = None,
    outliers: Tensor | None = None,
    made: Made = NOTHING,
) -> Grid:
    """A site's weight as int8 codes, bounded by their width.

    Args:
        profile: Weights and statistics.
        name: The site.
        weights: How.
        columns: (columns,) factors on the steps, or None for ones.
        outliers: (count,) columns that stay float, or None.
        made: What earlier steps made of sites.
    """
    known, weight = profile.sites[name], weight_left(profile, name, made=made)
    factor, few = profile.factor(name), None
    if outliers is not None:
        few = Outliers(outliers, weight[:, outliers].contiguous())
        weight = weight.index_fill(1, outliers, 0.0)
        factor = inverse_factor(apart(profile.column_side(name), outliers))
    scaled = weight if columns is None else weight / columns
    steps = _steps(profile, known, scaled, columns=columns, weights=weights)
    largest = 2 ** (weights.bits - 1) - 1
    if weights.feedback:
        rounded = partial(
            feedback_codes,
            weight,
            factor,
            column_steps=columns,
            rows=profile.row_factor(name),
            rounding=Rounding(kept=mask_of(known, made), largest=largest),
        )
        if weights.per_channel and known.output is None and known.site.columns <= SHORT:
            widest = absolute_maximum_steps(scaled, weights.bits)
            lose = _loses(weight, profile.column_side(name), columns=columns, rounded=rounded)
            steps = best_steps(steps, widest, lose=lose)
        codes = rounded(steps)
    else:
        codes = round_to_grid(scaled, steps[:, None]).clamp(-largest, largest)
    grid = as_grid(known.site, codes, row_steps=steps, column_steps=columns)
    return replace(grid, outliers=few)


def _loses(
    weight: Tensor, second: Tensor, *, columns: Tensor | None, rounded: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """What each row loses on steps, (out,), once its codes are rounded on them."""
    wide = 1.0 if columns is None else columns

    def lose(steps: Tensor) -> Tensor:
        return layer_damage(weight, rounded(steps) * steps[:, None] * wide, second)

    return lose


def _steps(
    profile: Profile,
    known: SiteProfile,
    scaled: Tensor,
    *,
    columns: Tensor | None,
    weights: Weights,
) -> Tensor:
    """(rows,) steps of the scaled weight."""
    if not weights.per_channel:
        stored = scaled * known.row_sizes[:, None]
        one = absolute_maximum_steps(stored.reshape(1, -1), weights.bits)
        return one / known.row_sizes
    power = profile.column_side(known.site.name).diagonal(dim1=1, dim2=2)  # (groups, columns)
    power = power if columns is None else power * columns.square()
    rows = power.repeat_interleave(len(scaled) // len(power), 0) if len(power) > 1 else power
    return clipped_steps(scaled, weights.bits, power=rows)


def int8_option(
    profile: Profile, name: str, *, grid: Encoding, noise: Noise, settings: dict[str, Any]
) -> Option:
    """What a site as int8 codes costs: rounded weights, inputs and results together.

    Args:
        profile: Weights and statistics.
        name: The site.
        grid: What became of it.
        noise: Of the rounded activations.
        settings: Fields of the technique that made it so.
    """
    if not isinstance(grid, Grid):
        raise TypeError(f"{name} is no grid")
    known, weight = profile.sites[name], profile.matrix(name)
    damage = known.damage(weight, known.site.matrix(grid.decode()))
    damage += rounding_damage(known, weight, grid=grid, noise=noise.inputs)
    damage += noise.results * results_worth(known)
    storage, installed = estimate_bits(grid.codes.numpy()) / 8, known.site.size
    if grid.outliers is None:
        return Option(settings, damage * (known.sensitivity or 0.0), storage, installed)
    floats = grid.outliers.weight.nbytes
    return Option(
        settings,
        damage * (known.sensitivity or 0.0),
        storage + floats,
        installed + floats,
        kernel="outliers",
    )


def rounding_damage(known: SiteProfile, weight: Tensor, *, grid: Grid, noise: float) -> float:
    """What rounding a site's inputs costs under the metric.

    Errors of different inputs are taken as independent and of one size, so that
    ``tr(G W E[e e^T] W^T)`` is the noise's variance times ``tr(G W W^T)``.

    Args:
        known: The site.
        weight: (rows, columns) as the float inputs are multiplied with.
        grid: What became of it: columns that stay float cost nothing, the others are divided by
            its column steps; of a depthwise convolution the rows by its channels.
        noise: Variance of the error of one rounded input.
    """
    scaled = weight if grid.column_steps is None else weight / grid.column_steps
    if grid.channels is not None and grid.column_steps is None:
        scaled = weight / grid.channels[:, None]
    if grid.outliers is not None:
        scaled = scaled.index_fill(1, grid.outliers.places, 0.0)
    return noise * float(inputs_worth(known, scaled).sum())


def inputs_worth(known: SiteProfile, weight: Tensor) -> Tensor:
    """What an error of variance 1 costs in each input, (columns,): the diagonal of ``W^T G W``.

    Args:
        known: The site.
        weight: (rows, columns) as the inputs are multiplied with.
    """
    if known.output is not None:
        return ((known.output @ weight) * weight).sum(0)
    return known.weights @ weight.square()


def results_worth(known: SiteProfile) -> float:
    """What an error of variance 1 costs in each result of a convolution, its BatchNorm applied.

    The row side stands before the BatchNorm, where an error is smaller by the row's factor. Rows
    that are worth next to nothing, such as those of a dead channel, count for nothing.
    """
    worth = torch.where(known.weights > SMALLEST_WORTH, known.weights, 0.0)
    return float((worth / known.row_sizes.square()).sum())
