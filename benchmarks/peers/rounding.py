"""Peers that need no data: round-to-nearest, HQQ and torchao IntX, in groups of weights.

HQQ: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023, through
its package `hqq`. IntX: the package `torchao`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers.files import Grouped

GROUP = 64
Rounding = Callable[[Tensor, int], Grouped]


def groups_of(weight: Tensor, size: int = GROUP) -> Tensor:
    """The weight flattened into rows of `size`, the last one padded with its own last value."""
    flat = weight.detach().reshape(-1)
    missing = -len(flat) % size
    return torch.cat([flat, flat[-1:].expand(missing)]).reshape(-1, size)  # (n / size, size)


def affine(values: Tensor, bits: int, *, clip: float = 1.0) -> tuple[Tensor, Tensor]:
    """Scale (n,) as fp16 stores it and whole zero (n,) of each row from its minimum and maximum."""
    top = 2**bits - 1
    low = values.amin(1).clamp(max=0) * clip
    high = values.amax(1).clamp(min=0) * clip
    scale = ((high - low) / top).clamp(min=1e-7).half().float()
    return scale, (-low / scale).round().clamp(0, top)


def round_to_nearest(weight: Tensor, bits: int) -> Grouped:
    """Every weight to the nearest of 2 ** bits levels between its group's minimum and maximum."""
    values = groups_of(weight)
    scale, zero = affine(values, bits)
    codes = (values / scale[:, None] + zero[:, None]).round().clamp(0, 2**bits - 1)
    return _grouped(codes, scale, zero, bits=bits, shape=weight.shape)


def hqq(weight: Tensor, bits: int) -> Grouped:
    """HQQ with its own defaults (whole zeros at 4 bits, as its configuration says)."""
    from hqq.core.quantize import Quantizer

    values = groups_of(weight)
    codes, meta = Quantizer.quantize(
        values,
        nbits=bits,
        group_size=GROUP,
        axis=1,
        round_zero=bits == 4,
        bitpack=False,
        compute_dtype=torch.float32,
        device="cpu",
    )
    return _grouped(codes, meta["scale"], meta["zero"], bits=bits, shape=weight.shape)


def torchao_intx(weight: Tensor, bits: int) -> Grouped:
    """torchao's best IntX weight-only mode, by squared error of the weight."""
    from torchao.quantization.quant_primitives import MappingType

    modes = [
        (MappingType.ASYMMETRIC, "affine"),
        (MappingType.SYMMETRIC, "affine"),
        (MappingType.SYMMETRIC, "hqq_scale_only"),
    ]
    found = [_torchao(weight, bits, mapping, algorithm) for mapping, algorithm in modes]
    return min(found, key=lambda item: float((item.decode() - weight).square().sum()))


def _torchao(weight: Tensor, bits: int, mapping: object, algorithm: str) -> Grouped:
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

    values = groups_of(weight)
    linear = nn.Linear(GROUP, len(values), bias=False)
    linear.weight = nn.Parameter(values.clone(), requires_grad=False)
    config = IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{bits}"),
        granularity=PerGroup(GROUP),
        mapping_type=mapping,
        intx_choose_qparams_algorithm=algorithm,
    )
    quantize_(linear, config)
    packed = linear.weight
    half = 2 ** (bits - 1)
    codes, zero = packed.qdata.float() + half, packed.zero_point.float() + half
    return _grouped(codes, packed.scale, zero, bits=bits, shape=weight.shape)


def _grouped(
    codes: Tensor, scale: Tensor, zero: Tensor, *, bits: int, shape: torch.Size
) -> Grouped:
    zero = zero.reshape(-1)
    whole = bool((zero == zero.round()).all() and zero.min() >= 0 and zero.max() <= 255)
    return Grouped(
        codes=codes.reshape(-1).to(torch.uint8),
        scales=scale.reshape(-1).half(),
        zeros=zero.to(torch.uint8) if whole else zero.half(),
        bits=bits,
        shape=tuple(shape),
    )


def squared_error(item: Grouped, weight: Tensor) -> float:
    """Sum of squared differences between a weight and what its codes decode to."""
    return float((item.decode() - weight).double().square().sum()) if math.prod(item.shape) else 0.0
