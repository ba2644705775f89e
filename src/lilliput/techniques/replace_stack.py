"""Replaces convolutions with large kernels by stacks of ones with small kernels."""

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
from lilliput.tensor.stacks import composed, refitted_last, stacked

SIZE = 3


class ReplaceStack(Fields):
    """Replaces a kernel of 5 by two of 3, of 7 by three: linear maps one after the other.

    The weights are fitted to the kernel by alternating least squares, the last ones then to the
    calibration inputs. All padding is done by the first, so that the stack is one linear map up to
    the border; it is proved against the original with the composed kernels.

    Attributes:
        remove: Share of the weights that go, in (0, 1): it sets the channels between.
    """

    name: ClassVar[str] = "replace_stack"
    family: ClassVar[Family] = "replace"
    source: ClassVar[str] = "Simonyan and Zisserman 2015, arXiv 1409.1556"
    summary: ClassVar[str] = "replace large kernels by stacks of small ones"

    remove: float = Field(0.25, gt=0, lt=1, json_schema_extra={"unit": "share of weights removed"})

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
        refused = {name: why for name, one in every.items() if (why := _refusal(one))}
        able = {name: one for name, one in every.items() if name not in refused}
        layers = chosen(where, able, reasons=reasons | refused, kind="convolution")
        moments = original.moments(layers)
        modules, weights = {}, {}
        for name, layer in layers.items():
            second = moments[name].shrunk()[0] if name in moments else None
            with torch.no_grad():
                factors = self._factors(layer.weight.detach(), second)
            modules[name] = _stack(layer, factors)
            weights[f"{name}.weight"] = _whole(factors)
        return original.with_modules(modules, weights=weights, what=listed(layers))

    def _factors(self, weight: Tensor, second: Tensor | None) -> list[Tensor]:
        """Weights of small kernels, first to last."""
        out, inside, *kernel = weight.shape
        count = (kernel[0] - 1) // (SIZE - 1)
        taps = SIZE ** len(kernel)
        middle = _middle((1 - self.remove) * weight.numel() / taps, out, inside, count)
        factors, rest = [], weight
        for _ in range(count - 1):
            first, rest = stacked(rest, middle=middle)
            factors.append(first)
        if second is not None:
            before = _whole(factors)
            rest = refitted_last(weight, before, rest=list(rest.shape[2:]), second=second)
        return [*factors, rest]


def _refusal(layer: Convolution) -> str:
    """Why a convolution cannot become a stack."""
    sizes = {*layer.weight.shape[2:]}
    if len(sizes) > 1 or (size := sizes.pop()) < 5 or size % 2 == 0:
        return "its kernel is not square of an odd size from 5"
    if {*layer.stride} != {1}:
        return "its stride would make the first of the stack work on every position"
    return "it is dilated" if {*layer.dilation} != {1} else ""


def _middle(room: float, out: int, inside: int, count: int) -> int:
    """Channels between, so that the stack has so many pairs of channels; at least one."""
    middle = 1
    while _pairs(middle + 1, out, inside, count) <= room:
        middle += 1
    return middle


def _pairs(middle: int, out: int, inside: int, count: int) -> int:
    return middle * inside + (count - 2) * middle * middle + out * middle


def _whole(factors: list[Tensor]) -> Tensor:
    whole = factors[0]
    for factor in factors[1:]:
        whole = composed(whole, factor)
    return whole.detach()


def _stack(layer: Convolution, factors: list[Tensor]) -> nn.Module:
    """The layer with the first weight and all the padding, and plain ones behind it."""
    first = copy.deepcopy(layer)
    first.weight, first.bias = nn.Parameter(factors[0]), None
    first.out_channels, first.kernel_size = len(factors[0]), tuple(factors[0].shape[2:])
    if layer.padding == "same":
        first.padding = tuple(size // 2 for size in layer.weight.shape[2:])
    rest: list[nn.Module] = []
    for place, factor in enumerate(factors[1:], 2):
        bias = layer.bias is not None and place == len(factors)
        following = type_of(layer)(factor.shape[1], len(factor), SIZE, bias=bias)
        following.weight = nn.Parameter(factor)
        if bias and layer.bias is not None:
            following.bias = nn.Parameter(layer.bias.detach().clone())
        rest.append(following)
    return nn.Sequential(first, *rest)
