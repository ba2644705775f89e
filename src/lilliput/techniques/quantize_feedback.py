"""Rate-optimal quantization: error feedback onto an unbounded uniform grid, entropy-coded."""

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import NOTHING, Encoding, Made, Masked
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.techniques.base import Option
from lilliput.techniques.earlier import mask_of
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.grid_steps import column_steps, row_steps
from lilliput.techniques.grid_storage import INT8_LARGEST, as_grid
from lilliput.techniques.sampling import sampled_rows
from lilliput.tensor.feedback import Rounding, RowFactor, feedback_codes, row_factor

MEASURED = (0.3, 0.55, 0.85, 1.25, 1.8, 2.7)  # steps tried on a sample, in standard deviations
DERIVED = (0.01, 0.03, 0.1)  # finer ones follow by the high-rate law
CONVOLUTION_COLUMNS = 0.6  # cautious: their second moments come from few photos
COLUMN_BITS = 4.0  # what a column's step costs in the file

Trial = tuple[float, float, float, int]  # step, damage, bits per weight, largest code


class QuantizeFeedback(Fields):
    """Rounds onto a uniform grid; columns and rows still to come absorb the error.

    The grid is unbounded and its codes are entropy-coded, so size is set by the step alone.

    Attributes:
        step: Distance of the grid's points in units of the weight's standard deviation, > 0.
        row_exponent: Rows whose output matters more get finer steps: worth ** -row_exponent,
            in [0, 0.5], 0.5 is best at high rate. Worth is the row's entry of D in U D U^T where
            the row side is whole, and of an embedding's weights.
        diagonal_exponent: The same where the row side is a diagonal, in [0, 0.5]: it comes from
            the gradients of few examples.
        column_exponent: Columns whose error later ones can absorb less get finer steps:
            (diagonal of the factor) ** column_exponent, in [0, 1]; 0 is one step for all. Negative
            means chosen by the kind of site: 1, which is best at high rate, but 0.6 for
            convolutions, whose second moments come from few photos.
        dead_zone: Share of a step by which rounding leans toward zero, in [0, 0.5); negative
            means chosen from the step.
    """

    name: ClassVar[str] = "quantize_feedback"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Frantar et al. 2022, GPTQ, arXiv 2210.17323; rows: arXiv 2505.22988"
    summary: ClassVar[str] = "error-feedback rounding onto an entropy-coded uniform grid"

    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)

    step: float = Field(1.0, gt=0, le=16, json_schema_extra={"unit": "standard deviations"})
    row_exponent: float = Field(0.4, ge=0, le=0.5, json_schema_extra={"unit": "exponent"})
    diagonal_exponent: float = Field(0.2, ge=0, le=0.5, json_schema_extra={"unit": "exponent"})
    column_exponent: float = Field(
        -1.0, ge=-1, le=1, json_schema_extra={"unit": "exponent; negative: chosen"}
    )
    dead_zone: float = Field(
        -1.0, ge=-1, lt=0.5, json_schema_extra={"unit": "steps; negative: chosen"}
    )

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Nine steps, finest first; damage and bytes from a sample of rows."""
        known = profile.sites[where]
        sample = _Sample(profile, known)
        shape = self._columns_that_pay(known, sample)
        measured = [
            self.model_copy(update={"step": step} | shape)._try(known, sample) for step in MEASURED
        ]
        options = [_high_rate(measured[0], step) for step in DERIVED] + measured
        return tuple(
            Option(
                {"step": step} | shape,
                damage * (known.sensitivity or 0.0),
                bits * known.site.size / 8,
                known.site.size * (2 if largest > INT8_LARGEST else 1),
            )
            for step, damage, bits, largest in options
        )

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site on its grid, codes as int8 where they fit, else int16."""
        grids: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            factor, between = profile.factor(name), profile.row_factor(name)
            rows, columns = self._steps(known, weight, factor, between)
            kept = mask_of(known, made)
            codes = self._codes(weight, factor, rows, columns, between, kept=kept)
            grids[name] = as_grid(known.site, codes, row_steps=rows, column_steps=columns)
        return grids

    def _columns_that_pay(self, known: SiteProfile, sample: "_Sample") -> dict[str, float]:
        """Drops the column steps where they do not lower damage at equal bits on the sample."""
        wanted = self._exponent(known)
        if column_steps(known, sample.factor, exponent=wanted) is None:
            return {}
        merits = []
        for exponent in (wanted, 0.0):
            tried = self.model_copy(update={"step": MEASURED[2], "column_exponent": exponent})
            _, damage, bits, _ = tried._try(known, sample)
            side = COLUMN_BITS * known.site.columns / known.site.size if exponent else 0.0
            merits.append(0.5 * math.log2(max(damage, 1e-300)) + bits + side)
        return {} if merits[0] < merits[1] else {"column_exponent": 0.0}

    def _try(self, known: SiteProfile, sample: "_Sample") -> Trial:
        """The sampled rows on this grid; the damage is extrapolated to all rows."""
        rows, columns = self._steps(known, sample.whole, sample.factor, sample.whole_row_factor)
        rows = rows[sample.rows]
        factor = sample.factor[sample.groups]
        codes = self._codes(sample.weight, factor, rows, columns, sample.row_factor)
        value = codes * rows[:, None]
        value = value if columns is None else value * columns
        damage = known.damage_of(sample.weight, value, rows=sample.rows) / len(value)
        bits = estimate_bits(codes.numpy()) / codes.numel()
        return self.step, damage * known.site.rows, bits, int(codes.abs().max())

    def _codes(
        self,
        weight: Tensor,
        factor: Tensor,
        rows: Tensor,
        columns: Tensor | None,
        between: RowFactor | None,
        *,
        kept: Tensor | None = None,
    ) -> Tensor:
        lean = automatic_dead_zone(self.step) if self.dead_zone < 0 else self.dead_zone
        return feedback_codes(
            weight,
            factor,
            rows,
            column_steps=columns,
            rows=between,
            rounding=Rounding(lean, kept),
        )

    def _exponent(self, known: SiteProfile) -> float:
        """Of the columns' steps."""
        chosen = CONVOLUTION_COLUMNS if known.site.kind == "conv" else 1.0
        return chosen if self.column_exponent < 0 else self.column_exponent

    def _steps(
        self, known: SiteProfile, weight: Tensor, factor: Tensor, between: RowFactor | None
    ) -> tuple[Tensor, Tensor | None]:
        """(rows,) steps and (columns,) factors on them, None for ones."""
        columns = column_steps(known, factor, exponent=self._exponent(known))
        noisy = between is None and known.frequencies is None
        rows = row_steps(
            known,
            weight,
            step=self.step,
            exponent=self.diagonal_exponent if noisy else self.row_exponent,
            worth=known.weights if between is None else between.worth,
            columns=columns,
        )
        return rows, columns


def _high_rate(finest: Trial, step: float) -> Trial:
    """A finer step from the finest one measured: damage goes with its square, bits with its log."""
    ratio = finest[0] / step
    return step, finest[1] / ratio**2, finest[2] + math.log2(ratio), round(finest[3] * ratio)


class _Sample:
    """Evenly spread rows of a site (whole groups of a grouped convolution)."""

    def __init__(self, profile: Profile, known: SiteProfile) -> None:
        name = known.site.name
        self.rows, self.groups = sampled_rows(known)
        self.factor = profile.factor(name)
        self.whole = profile.matrix(name)
        self.weight = self.whole[self.rows]
        self.whole_row_factor = profile.row_factor(name)
        self.row_factor = None
        if known.output is not None:
            self.row_factor = row_factor(known.output[self.rows][:, self.rows])


def automatic_dead_zone(step: float) -> float:
    """How far rounding leans toward zero at a step in standard deviations (measured on MiniLM).

    Nothing at high rate; a tenth of a step near two bits per weight.
    """
    return float(min(0.22, 0.1 * (step / 1.1) ** 1.5))
