"""Rate-optimal quantization: error feedback onto an unbounded uniform grid, entropy-coded."""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lilliput.coding import estimate_bits
from lilliput.model.encodings import Encoding
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.techniques.base import Family, Option
from lilliput.techniques.grid_storage import INT8_LARGEST, as_grid
from lilliput.techniques.settings import Settings
from lilliput.tensor.grids import feedback_codes
from lilliput.tensor.second_order import inverse_factor, layer_damage

MEASURED = (0.3, 0.55, 0.85, 1.25, 1.8, 2.7)  # steps tried on a sample, in standard deviations
DERIVED = (0.01, 0.03, 0.1)  # finer ones follow by the high-rate law
SAMPLE_ROWS = 128
SAMPLE_WEIGHTS = 400_000
OCTAVE_PARTS = 4  # row steps lie on a grid of quarter octaves, so that they cost two bits each

Trial = tuple[float, float, float, int]  # step, damage, bits per weight, largest code


class QuantizeFeedback(Settings):
    """Rounds column after column onto a uniform grid; columns still to come absorb the error.

    The grid is unbounded and its codes are entropy-coded, so size is set by the step alone.

    Attributes:
        step: Distance of the grid's points in units of the weight's standard deviation, > 0.
        row_exponent: Rows whose output matters more get finer steps: weight ** -row_exponent,
            in [0, 0.5].
        dead_zone: Share of a step by which rounding leans toward zero, in [0, 0.5); negative
            means chosen from the step.
    """

    name: ClassVar[str] = "quantize_feedback"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "GPTQ (arXiv 2210.17323), entropy-coded as in arXiv 2505.18758"
    summary: ClassVar[str] = "error-feedback rounding onto an entropy-coded uniform grid"

    step: float = Field(1.0, gt=0, le=16, json_schema_extra={"unit": "standard deviations"})
    row_exponent: float = Field(0.2, ge=0, le=0.5)
    dead_zone: float = Field(-1.0, ge=-1, lt=0.5, json_schema_extra={"unit": "steps"})

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Nine steps, finest first; damage and bytes from a sample of rows."""
        known = profile.sites[where]
        sample = _Sample(profile, known)
        measured = []
        for step in MEASURED:
            codes, damage = self.model_copy(update={"step": step})._try(profile, known, sample)
            bits = estimate_bits(codes.numpy()) / codes.numel()
            measured.append(
                (step, damage * (known.sensitivity or 0.0), bits, int(codes.abs().max()))
            )
        options = [_high_rate(measured[0], step) for step in DERIVED] + measured
        return tuple(
            Option(
                {"step": step},
                damage,
                bits * known.site.size / 8,
                known.site.size * (2 if largest > INT8_LARGEST else 1),
            )
            for step, damage, bits, largest in options
        )

    def apply(self, profile: Profile, where: Sequence[str]) -> dict[str, Encoding]:
        """Each named site on its grid, codes as int8 where they fit, else int16."""
        grids: dict[str, Encoding] = {}
        for name in where:
            known, weight = profile.sites[name], profile.matrix(name)
            steps = self._row_steps(known, weight)
            codes = self._codes(weight, _factor(profile, known), steps)
            grids[name] = as_grid(known.site, codes, steps)
        return grids

    def _try(self, profile: Profile, known: SiteProfile, sample: "_Sample") -> tuple[Tensor, float]:
        """Codes of the sampled rows, and the damage of all rows extrapolated from theirs."""
        steps = self._row_steps(known, profile.matrix(known.site.name))[sample.rows]
        factor = _factor(profile, known)
        codes = self._codes(sample.weight, factor[sample.groups], steps)
        second = sample.second
        damage = layer_damage(sample.weight, codes * steps[:, None], second)
        weights = known.weights[sample.rows]
        return codes, float((damage * weights).mean()) * known.site.rows

    def _codes(self, weight: Tensor, factor: Tensor, steps: Tensor) -> Tensor:
        lean = automatic_dead_zone(self.step) if self.dead_zone < 0 else self.dead_zone
        return feedback_codes(weight, factor, steps, dead_zone=lean)

    def _row_steps(self, known: SiteProfile, weight: Tensor) -> Tensor:
        """(rows,) steps; what is stored, times the export's factor, lies on a coarse grid."""
        base = self.step * float(weight.std()) if weight.numel() > 1 else 0.0
        base = base or self.step * float(weight.abs().max()) or 1.0
        worth = known.weights.to(torch.float64)
        typical = torch.exp(torch.log(worth).mean())
        wanted = base * (worth / typical) ** -self.row_exponent
        factors = torch.ones(known.site.rows) if known.row_factors is None else known.row_factors
        stored = wanted * factors.abs().to(torch.float64).clamp_min(1e-30)
        return (_on_grid(stored, base) / factors.abs().clamp_min(1e-30)).to(torch.float32)


def _high_rate(finest: Trial, step: float) -> Trial:
    """A finer step from the finest one measured: damage goes with its square, bits with its log."""
    ratio = finest[0] / step
    return step, finest[1] / ratio**2, finest[2] + math.log2(ratio), round(finest[3] * ratio)


class _Sample:
    """Evenly spread rows of a site (whole groups of a grouped convolution)."""

    def __init__(self, profile: Profile, known: SiteProfile) -> None:
        site, groups = known.site, 1 if known.second is None else known.second.shape[0]
        per_group = site.rows // groups
        wanted = max(SAMPLE_ROWS, SAMPLE_WEIGHTS // max(1, site.columns) // 4)
        if site.kind == "embedding":
            wanted = SAMPLE_WEIGHTS // site.columns
        if groups == 1:
            self.groups = slice(None)
            self.rows = _spread(site.rows, wanted)
        else:
            chosen = _spread(groups, math.ceil(wanted / per_group))
            self.groups = chosen  # type: ignore[assignment]
            self.rows = (chosen[:, None] * per_group + torch.arange(per_group)).reshape(-1)
        self.weight = profile.matrix(site.name)[self.rows]
        self.second = (
            torch.eye(site.columns)[None] if known.second is None else known.second[self.groups]
        )


def _spread(count: int, wanted: int) -> Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int)))


def automatic_dead_zone(step: float) -> float:
    """How far rounding leans toward zero at a step in standard deviations (measured on MiniLM).

    Nothing at high rate; a tenth of a step near two bits per weight.
    """
    return float(min(0.22, 0.1 * (step / 1.1) ** 1.5))


def _on_grid(values: Tensor, base: float) -> Tensor:
    """Positive values moved to the nearest power of 2**(1/4) that half precision holds exactly."""
    exponents = torch.round(OCTAVE_PARTS * torch.log2(values / base)) / OCTAVE_PARTS
    return (base * 2**exponents).to(torch.float16).to(torch.float64).clamp_min(2.0**-24)


def _factor(profile: Profile, known: SiteProfile) -> Tensor:
    """(groups, columns, columns) factor of the inverse second moments, once per H."""
    if known.second is None:
        return torch.eye(known.site.columns)[None]
    key = known.second.data_ptr()
    if key not in profile.factors:
        profile.factors[key] = inverse_factor(known.second)
    return profile.factors[key]
