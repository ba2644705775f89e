"""Replaces convolutions by depthwise separable ones."""

import copy
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques.convolutions import Convolution, convolutions, type_of
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.replacing import Original, chosen, listed
from lilliput.tensor.separable import joined, refitted_points, separated


class ReplaceDepthwise(Fields):
    """Replaces convolutions by a depthwise and a pointwise one, taken from their kernels.

    Each input channel's kernels are decomposed by singular values, which is exact where the rank
    allows; then the pointwise weights are fitted by least squares to the calibration inputs. The
    result is proved against the original with the composed kernels.

    Attributes:
        rank: Depthwise kernels per input channel, 1 to 64.
    """

    name: ClassVar[str] = "replace_depthwise"
    family: ClassVar[Family] = "replace"
    source: ClassVar[str] = (
        "Guo et al. 2018, arXiv 1808.06866; Howard et al. 2017, arXiv 1704.04861"
    )
    summary: ClassVar[str] = "replace convolutions by depthwise separable ones"

    rank: int = Field(1, ge=1, le=64, json_schema_extra={"unit": "kernels per channel"})

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy with the named convolutions replaced, with its proof."""
        original = Original.of(model, inputs, batches=batches)
        every, reasons = convolutions(model, original.shape)
        refused = {name: why for name, one in every.items() if (why := self._refusal(one))}
        able = {name: one for name, one in every.items() if name not in refused}
        layers = chosen(where, able, reasons=reasons | refused, kind="convolution")
        moments = original.moments(layers)
        modules, weights = {}, {}
        for name, layer in layers.items():
            second = moments[name].shrunk()[0] if name in moments else None
            modules[name], weights[f"{name}.weight"] = self._replaced(layer, second)
        return original.with_modules(modules, weights=weights, what=listed(layers))

    def _refusal(self, layer: Convolution) -> str:
        """Why a convolution cannot have this rank."""
        out, inside = layer.weight.shape[:2]
        taps = layer.weight[0, 0].numel()
        if self.rank > min(out, taps):
            return f"rank {self.rank} is more than its kernels have, {min(out, taps)}"
        if self.rank * inside * (taps + out) >= layer.weight.numel():
            return f"at rank {self.rank} it would not be smaller"
        return ""

    def _replaced(self, layer: Convolution, second: Tensor | None) -> tuple[nn.Module, Tensor]:
        """Two convolutions, and the one kernel that they stand for."""
        weight = layer.weight.detach()
        depth, points = separated(weight, rank=self.rank)
        if second is not None:
            points = refitted_points(weight, depth, second=second)
        first = copy.deepcopy(layer)
        first.weight, first.bias = nn.Parameter(depth), None
        first.groups, first.out_channels = layer.in_channels, len(depth)
        last = type_of(layer)(len(depth), layer.out_channels, 1, bias=layer.bias is not None)
        last.weight = nn.Parameter(points)
        if layer.bias is not None:
            last.bias = nn.Parameter(layer.bias.detach().clone())
        with torch.no_grad():
            return nn.Sequential(first, last), joined(depth, points, inside=layer.in_channels)
