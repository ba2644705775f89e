"""Frequency tables from two small integers: a discretised generalised Gaussian, without floats.

The weight of a value v is the integral over [v - 1/2, v + 1/2] of ``2^-((|x| / scale)^shape)``,
by eight points, times a factor at v = 0. All of it is fixed-point arithmetic on integers below
2^63, so that every machine derives the same tables. docs/format.md, "The integer table procedure".
"""

from functools import cache, lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from lilliput.coding.rans import TOTAL
from lilliput.coding.tokens import ranges

Integers = NDArray[np.int64]
FRACTION = 16  # bits after the binary point of logarithms
ONE = 1 << 26  # fixed-point 1 of powers
SCALES = 192  # scale index i stands for 2^((i - 64) / 8)
SHAPES = range(4, 33)  # shape index stands for index / 8
ZERO_CENTRE = 128  # zero index z multiplies the weight of 0 by 2^((z - 128) / 16)
POINTS = np.arange(1, 16, 2, dtype=np.int64)


@lru_cache(maxsize=1)
def _roots() -> tuple[int, ...]:
    """2^-(1/2), 2^-(1/4), ... in fixed point, one per bit of the fraction."""
    roots = [isqrt((ONE >> 1) * ONE)]
    while len(roots) < FRACTION:
        roots.append(isqrt(roots[-1] * ONE))
    return tuple(roots)


def log2(numbers: Integers) -> Integers:
    """floor-like log2 of integers in [1, 2^40), 16 bits after the point, by repeated squaring."""
    mantissa, exponent = numbers.copy(), np.zeros_like(numbers)
    while np.any(big := mantissa >= ONE):
        mantissa, exponent = np.where(big, mantissa >> 1, mantissa), exponent + big
    while np.any(small := mantissa < ONE >> 1):
        mantissa, exponent = np.where(small, mantissa << 1, mantissa), exponent - small
    result = exponent + 25
    for _ in range(FRACTION):
        mantissa = mantissa * mantissa >> 25
        carry = mantissa >= ONE
        mantissa = np.where(carry, mantissa >> 1, mantissa)
        result = result << 1 | carry
    return result


def exp2_negative(exponents: Integers) -> Integers:
    """2^-(e / 2^16) in units of 2^-26 for e >= 0."""
    power = np.full_like(exponents, ONE)
    for bit, root in enumerate(_roots()):
        power = np.where(exponents >> (FRACTION - 1 - bit) & 1, power * root >> 26, power)
    result: Integers = power >> np.minimum(exponents >> FRACTION, 40)
    return result


def density(positions: Integers, scales: Integers | np.int64, shape: int) -> Integers:
    """``2^-((n / 16 / scale)^shape)`` in units of 2^-26 at positions n / 16, n >= 1.

    Positions and scale indices broadcast against each other.
    """
    relative = log2(positions) - (4 << FRACTION) - ((scales - 64) << (FRACTION - 3))
    exponent = relative * shape >> 3
    exponent = np.clip(exponent, -17 << FRACTION, 5 << FRACTION)  # above 2^-32: nothing is left
    whole = (exponent >> FRACTION) + 1
    power = exp2_negative((whole << FRACTION) - exponent) >> (10 - whole)  # 2^exponent, 16 bits
    return exp2_negative(power)


def sample_points(split: int, size: int) -> tuple[Integers, Integers]:
    """Sampling points of magnitude indices 0 ... size - 1, (size, 8) sixteenths; their widths."""
    table = ranges(split)
    width: Integers = np.left_shift(1, table.bits[:size])
    points: Integers = 16 * table.first[:size, None] - 8 + width[:, None] * POINTS[None, :]
    points[0] = [1, 1, 3, 3, 5, 5, 7, 7]
    return points, width


@cache  # at most one entry per possible scale, shape and split: 33,408
def weights(scale: int, shape: int, split: int) -> Integers:
    """Weight of every magnitude index, one sign only (index 0: both): (indices,)."""
    points, width = sample_points(split, len(ranges(split).first))
    weight: Integers = density(points, np.int64(scale), shape).sum(1) * width
    weight[0] = max(weight[0], 1)
    weight.flags.writeable = False
    return weight


def frequencies(scales: Integers, shape: int, zero: int, *, split: int, escape: int) -> Integers:
    """Frequencies of the tokens 0 ... escape, one row per scale: (scales, escape + 1).

    Args:
        scales: Scale indices, [0, 192).
        shape: Shape index, [4, 32].
        zero: Zero index, [0, 256).
        split: Magnitudes below 2^split have a token of their own, [1, 6].
        escape: The escape token; the tokens before it are those of ``ranges(split)``.
    """
    each = [weights(int(scale), shape, split)[: escape // 2 + 1] for scale in scales]
    weight = np.repeat(np.stack(each), 2, axis=1)[:, 1 : escape + 1]
    weight[:, 0] = _scale_zero(weight[:, 0], zero)
    total = weight.sum(1, keepdims=True)
    share = weight * (TOTAL - 1) // total
    kept = 4 * (TOTAL - 1) * weight >= total
    found = np.concatenate([np.where(kept, np.maximum(share, 1), 0), np.ones_like(total)], axis=1)
    found[np.arange(len(found)), np.argmax(found, axis=1)] += TOTAL - found.sum(1)
    return found


def _scale_zero(weight: Integers, zero: int) -> Integers:
    """The weight of 0 times 2^((zero - 128) / 16), at least 1."""
    up = max(zero - ZERO_CENTRE + 15 >> 4, 0)
    down = (up << 4) - (zero - ZERO_CENTRE)
    factor = int(exp2_negative(np.array([down << (FRACTION - 4)], np.int64))[0])
    result: Integers = np.maximum((weight * factor >> 26) << up, 1)
    return result
