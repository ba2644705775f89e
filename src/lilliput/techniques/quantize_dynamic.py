"""Int8 weights, and activations rounded to uint8 by the extremes of each call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field

from lilliput.environment import int8_saturates
from lilliput.model.encodings import NOTHING, Encoding, Inputs, Made, Masked
from lilliput.model.profiles import Profile
from lilliput.records import LimitName
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.integer_products import PRODUCTS, Noise, Weights, int8_grid, int8_option
from lilliput.tensor.activations import uint8_grid


class QuantizeDynamic(Fields):
    """Products on integers: int8 weights, and inputs on the grid that each call asks for.

    Needs no calibration. Only products have such a form: embeddings, convolutions and recurrent
    layers keep float inputs. ONNX Runtime is fast with it; OpenVINO reads it, but computes in
    floating point: for it choose `quantize_static`.

    Attributes:
        per_channel: A step for each output's weights, else one for the site.
        bits: Width of the weights; 7 for processors whose uint8 x int8 products saturate.
        feedback: Weights still to come absorb the rounding errors of weights.
    """

    name: ClassVar[str] = "quantize_dynamic"
    family: ClassVar[Family] = "quantize"
    source: ClassVar[str] = "Jacob et al. 2018, arXiv 1712.05877; ZeroQuant, arXiv 2206.01861"
    summary: ClassVar[str] = "int8 weights, uint8 activations on a grid of each call's own"

    follows: ClassVar[tuple[type[Encoding], ...]] = (Masked,)
    serves: ClassVar[frozenset[LimitName] | None] = frozenset({"latency", "memory"})

    per_channel: bool = True
    bits: int = Field(8, ge=7, le=8, json_schema_extra={"unit": "bits"})
    feedback: bool = True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """One: the damage of the rounded weights and at most that of the rounded inputs."""
        settings: dict[str, Any] = {"bits": 7} if int8_saturates() else {}
        (found,) = self.model_copy(update=settings).apply(profile, (where,)).values()
        return (
            int8_option(
                profile, where, grid=found, noise=_noise(profile, where), settings=settings
            ),
        )

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """Each named site as int8 codes."""
        weights = Weights(self.bits, self.per_channel, self.feedback)
        grids: dict[str, Encoding] = {}
        for name in where:
            grid = int8_grid(profile, name, weights=weights, made=made)
            product = profile.sites[name].site.kind in PRODUCTS
            grids[name] = replace(grid, inputs=Inputs()) if product else grid
        return grids


def _noise(profile: Profile, name: str) -> Noise:
    """That of the inputs, were every call's extremes those of all calls."""
    known = profile.sites[name]
    if known.inputs is None or known.site.kind not in PRODUCTS:
        return Noise()
    seen = known.inputs.histogram
    step, _ = uint8_grid((seen.low, seen.high))
    return Noise(step * step / 12)
