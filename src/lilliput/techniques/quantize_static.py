"""Int8 weights, and activations rounded to uint8 on grids fixed beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.environment import int8_saturates
from lilliput.model.encodings import NOTHING, Encoding, Inputs, Made, Masked
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.model.sites import Site
from lilliput.model.spread import Spread
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.integer_products import (
    PRODUCTS,
    Noise,
    Weights,
    inputs_worth,
    int8_grid,
    int8_option,
)
from lilliput.tensor.activations import (
    RangeMethod,
    chosen_range,
    squared_error,
    uint8_grid,
)
from lilliput.tensor.smoothing import Seen, channel_factors, outlying, smoothed

PAYS = 0.7  # share of the error that is left where some inputs stay float: above, none do


class QuantizeStatic(Fields):
    """Products and convolutions on integers: uint8 inputs on a fixed grid, int8 weights.

    The runtime's integer kernels do the work, so the file is faster, not only smaller. Embeddings,
    recurrent layers and sites whose inputs were not seen as one keep float inputs.

    Attributes:
        ranges: What the grid of the inputs covers: ``minmax`` everything seen, ``percentile``,
            ``mse`` with the least squared error, ``entropy`` with the least information lost.
        percentile: How many of a hundred inputs ``percentile`` covers, in [90, 100].
        smoothing: How far at most inputs that reach far are scaled down, and their weights up, in
            [0, 1]; 0 not at all, at 1 every input fills the grid. Few calibration rows get less of
            it and more room beyond what was seen. Only of products; then everything seen is covered
            (SmoothQuant).
        outliers: At most so many inputs of a product, which reach several times as far as the
            others, stay float with their weights (LLM.int8), in [0, 64]: where that takes at least
            three tenths off the error, since it costs a second product.
        equalize: Of a convolution that alone reads what another hands on, channels that reach less
            far are scaled up by `smoothing` in the other and down here: the same function on finer
            grids (cross-layer equalization).
        per_channel: A step for each output's weights, else one for the site.
        bits: Width of the weights; 7 for processors whose uint8 x int8 products saturate.
        feedback: Weights still to come absorb the rounding errors of weights.
    """

    name: ClassVar[str] = "quantize_static"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = (
        "Jacob et al. 2018, arXiv 1712.05877; SmoothQuant, arXiv 2211.10438; "
        "LLM.int8, arXiv 2208.07339; cross-layer equalization, arXiv 1906.04721"
    )
    summary: ClassVar[str] = "int8 weights, uint8 activations on fixed grids: integer kernels"

    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)
    serves: ClassVar[frozenset[LimitName] | None] = frozenset({"latency", "memory"})

    ranges: RangeMethod = "minmax"
    percentile: float = Field(99.99, ge=90, le=100, json_schema_extra={"unit": "percent"})
    smoothing: float = Field(0.75, ge=0, le=1, json_schema_extra={"unit": "exponent"})
    outliers: int = Field(4, ge=0, le=64, json_schema_extra={"unit": "inputs"})
    equalize: bool = False
    per_channel: bool = True
    bits: int = Field(8, ge=7, le=8, json_schema_extra={"unit": "bits"})
    feedback: bool = True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """The damage of rounded weights, inputs and results: as it is, and without outliers.

        The second only where some inputs would stay float: it is the faster one.
        """
        settings: dict[str, Any] = {"bits": 7} if int8_saturates() else {}
        mild = self._option(profile, where, settings)
        if not mild.kernel:
            return (mild,)
        coarse = self._option(profile, where, {**settings, "outliers": 0})
        return mild, replace(coarse, damage=max(mild.damage, coarse.damage))

    def _option(self, profile: Profile, where: str, settings: dict[str, Any]) -> Option:
        changed = self.model_copy(update=settings)
        (found,) = changed.apply(profile, (where,)).values()
        noise = changed._noise(profile, profile.sites[where])
        return int8_option(profile, where, grid=found, noise=noise, settings=settings)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as int8 codes, and how its inputs are rounded."""
        grids: dict[str, Encoding] = {}
        for name in where:
            known = profile.sites[name]
            found = self._scheme(profile, known)
            grid = int8_grid(
                profile,
                name,
                weights=Weights(self.bits, self.per_channel, self.feedback),
                columns=found.columns,
                outliers=found.outliers,
                made=made,
            )
            results = None if known.results is None else self._grid(known.results)
            grids[name] = replace(
                grid, inputs=found.inputs, results=results, channels=found.channels
            )
        return grids

    def _scheme(self, profile: Profile, known: SiteProfile) -> "_Scheme":
        spread = known.inputs
        if spread is None or known.site.kind not in PRODUCTS | {"conv"}:
            return _Scheme()
        if self.equalize and known.absorbed and _takes_channels(known.site):
            return self._equalized(known.site, spread)
        one = known.site.kind == "conv" or not (self.smoothing or self.outliers)
        # Of so few rows it is known how far all inputs reach together, not how far each does.
        if one or spread.count < len(spread.low):
            noise = squared_error(spread.histogram, self._range(spread))
            return _Scheme(inputs=self._grid(spread), noise=noise)
        side = torch.ones(1, 1) if known.second is None else known.second[0]
        typical = side.diagonal().sqrt().expand(len(spread.low))
        seen = Seen(spread.low, spread.high, typical, _worth(profile, spread), spread.count)
        places = outlying(spread.low, spread.high, most=self.outliers)
        chosen = smoothed(seen.without(places), most=self.smoothing)
        if len(places):
            every = smoothed(seen, most=self.smoothing)
            if chosen.cost > PAYS * every.cost:
                places, chosen = places[:0], every
        columns = None
        if (chosen.factors != 1).any():
            columns = (1 / chosen.factors).index_fill(0, places, 1.0)
        inputs = Inputs(*uint8_grid(chosen.ends))
        noise = (inputs.step or 0.0) ** 2 / 12
        return _Scheme(columns, places if len(places) else None, inputs, noise)

    def _equalized(self, site: Site, spread: Spread) -> "_Scheme":
        channels = channel_factors(spread.low, spread.high, strength=self.smoothing)
        ends = float((spread.low * channels).min()), float((spread.high * channels).max())
        inputs = Inputs(*uint8_grid(ends))
        noise = (inputs.step or 0.0) ** 2 / 12 * spread.histogram.nonzero
        if site.groups > 1:
            return _Scheme(inputs=inputs, noise=noise, channels=channels)
        columns = channels.repeat_interleave(site.columns // len(channels))
        return _Scheme(columns, inputs=inputs, noise=noise, channels=channels)

    def _noise(self, profile: Profile, known: SiteProfile) -> Noise:
        results = known.results
        if results is None:
            return Noise(self._scheme(profile, known).noise)
        # What a rectifier made zero is exact, and no gradient passes there: of the rest alone.
        some = replace(results.histogram, zeros=0.0)
        return Noise(self._scheme(profile, known).noise, squared_error(some, self._range(results)))

    def _range(self, spread: Spread) -> tuple[float, float]:
        return chosen_range(spread.histogram, self.ranges, percentile=self.percentile)

    def _grid(self, spread: Spread) -> Inputs:
        return Inputs(*uint8_grid(self._range(spread)))


@dataclass(frozen=True)
class _Scheme:
    """How the inputs of a site are rounded; nothing where they are not.

    Attributes:
        columns: (columns,) what they are multiplied with before, or None.
        outliers: (count,) places of those that stay float, or None.
        inputs: The grid.
        noise: Variance of the error of one of them.
        channels: (channels,) what the convolution before multiplies them with, or None.
    """

    columns: Tensor | None = None
    outliers: Tensor | None = None
    inputs: Inputs | None = None
    noise: float = 0.0
    channels: Tensor | None = None


def _takes_channels(site: Site) -> bool:
    """Whether each row, or each column, reads one channel."""
    return site.groups in (1, site.rows) and site.rows == site.shape[0]


def _worth(profile: Profile, spread: Spread) -> Tensor:
    """What an error in each input costs all sites that read them: they share one grid."""
    readers = [name for name, known in profile.sites.items() if known.inputs is spread]
    return sum(
        (inputs_worth(profile.sites[name], profile.matrix(name)) for name in readers),
        torch.zeros(len(spread.low)),
    )
