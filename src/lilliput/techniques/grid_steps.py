"""Steps of a grid's rows and columns: finer where an error costs more."""

import torch
from torch import Tensor

from lilliput.model.profiles import SiteProfile
from lilliput.techniques.grid_storage import INT8_LARGEST

FEWEST_COLUMNS = 64  # narrower sites have one step for all columns
SMALLEST_HALF = 2.0**-20  # smaller numbers keep less than 5 bits in half precision
OCTAVE_PARTS = 4  # row steps lie on a grid of quarter octaves, so that they cost two bits each
MARGIN = 0.9  # of int8: error feedback moves codes a little
COARSENING = 0.02  # share of a site's damage that int8 instead of int16 may cost


def column_steps(known: SiteProfile, factor: Tensor, *, exponent: float) -> Tensor | None:
    """(columns,) factors with geometric mean near 1, on a coarse grid; None for ones.

    Args:
        known: The site.
        factor: (groups, columns, columns) factor of the inverse second moments.
        exponent: Of the factor's diagonal, in [0, 1].
    """
    few = known.site.columns < FEWEST_COLUMNS
    if not exponent or known.second is None or len(factor) > 1 or few:
        return None
    diagonal = factor[0].diagonal().to(torch.float64)
    typical = torch.exp(torch.log(diagonal).mean())
    return _on_grid((diagonal / typical) ** exponent, 1.0).to(torch.float32)


def row_steps(
    known: SiteProfile,
    weight: Tensor,
    *,
    step: float,
    exponent: float,
    worth: Tensor,
    columns: Tensor | None,
) -> Tensor:
    """(rows,) steps; what is stored, times the export's factor, lies on a coarse grid.

    Rows are compared as they are stored, that is after a BatchNorm was folded into them.

    Args:
        known: The site.
        weight: (rows, columns).
        step: In standard deviations of the stored weight.
        exponent: Of what a row is worth, in [0, 0.5].
        worth: (rows,) what an error in a row costs.
        columns: Factors of the columns' steps, or None for ones.
    """
    factors = known.row_sizes
    stored = weight * factors[:, None]
    base = step * float(stored.std()) if weight.numel() > 1 else 0.0
    base = base or step * float(stored.abs().max()) or 1.0
    cost = worth.to(torch.float64) / factors.to(torch.float64) ** 2
    typical = torch.exp(torch.log(cost).mean())
    wanted = base * (cost / typical) ** -exponent
    if known.site.kind == "embedding":
        wanted = _within_int8(wanted, cost, stored if columns is None else stored / columns)
    return (_on_grid(wanted, base) / factors).to(torch.float32)


def _within_int8(wanted: Tensor, cost: Tensor, scaled: Tensor) -> Tensor:
    """Coarser steps for the few rows whose codes would not fit int8.

    One such code makes the whole table int16 and the runnable file that much larger; where it would
    take many rows, the steps stay. Only for tables: a channel of a convolution is in every answer.
    """
    needed = scaled.abs().amax(1).to(torch.float64) / (MARGIN * INT8_LARGEST)
    coarser = torch.maximum(wanted, needed)
    before, after = (float((cost * steps.square()).sum()) for steps in (wanted, coarser))
    return coarser if after <= (1 + COARSENING) * before else wanted


def _on_grid(values: Tensor, base: float) -> Tensor:
    """Positive values moved to the nearest power of 2**(1/4), in half precision where that will do.

    Beyond half precision's range, or where it keeps less than 5 bits, they are float32.
    """
    exponents = torch.round(OCTAVE_PARTS * torch.log2(values / base)) / OCTAVE_PARTS
    wanted = base * 2**exponents
    fits = (wanted >= SMALLEST_HALF) & (wanted <= torch.finfo(torch.float16).max)
    return torch.where(fits, wanted.to(torch.float16), wanted.to(torch.float32)).to(torch.float64)
