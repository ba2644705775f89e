"""Power-of-two fixed point: a number is an integer times 2**-exponent.

Everything is rounded to nearest, halves up: ``floor(x + 1/2)``. On integers that is one addition
and one arithmetic shift to the right, which every processor has.
"""

import numpy as np
import torch
from torch import Tensor

_NOISE = 1e-5  # octaves: a step in float32 that is a power of two but for its last bits


def weight_exponents(largest: np.ndarray, bits: int) -> np.ndarray:
    """The finest exponents with which the largest weights get codes of `bits` bits.

    Args:
        largest: Absolute values, any shape.
        bits: Width of the codes, 2 to 8; codes run from ``-(2**(bits-1) - 1)`` to its negative.

    Returns:
        int64 of the same shape; 0 where the largest is 0.
    """
    most = 2 ** (bits - 1) - 1
    sizes = np.where(largest > 0, largest, most).astype(np.float64)
    return np.asarray(-np.ceil(np.log2(sizes / most) - _NOISE), np.int64)


def fixed_codes(weight: np.ndarray, exponents: np.ndarray, *, bits: int) -> np.ndarray:
    """Nearest codes, clipped to the width.

    Args:
        weight: Any shape.
        exponents: Integers that broadcast over it.
        bits: Width of the codes.

    Returns:
        int64 of the weight's shape.
    """
    most = 2 ** (bits - 1) - 1
    return np.asarray(rounded(weight * np.exp2(exponents.astype(np.float64))).clip(-most, most))


def rounded(values: np.ndarray) -> np.ndarray:
    """Nearest integers, halves up, as int64."""
    return np.floor(np.asarray(values, np.float64) + 0.5).astype(np.int64)


def shifted(sums: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """``sums * 2**-shift`` to nearest, halves up, in integers only; a negative shift is exact.

    Args:
        sums: Integers.
        shift: Integers that broadcast over them.
    """
    right, left = np.maximum(shift, 0), np.maximum(-np.asarray(shift), 0)
    half = (np.int64(1) << right) >> 1
    return np.asarray(((np.asarray(sums, np.int64) << left) + half) >> right)


def best_exponent(sample: np.ndarray, *, low: int, high: int) -> int:
    """The exponent with the least squared error for codes from `low` to `high`.

    Tried are the finest that clips nothing and the two next finer ones.

    Args:
        sample: Values that occur.
        low: Smallest code, at most 0.
        high: Largest code, above 0.
    """
    sample = np.asarray(sample, np.float64)
    reach = max(sample.max(initial=0) / high, sample.min(initial=0) / low if low else 0)
    if not reach > 0:
        return 0
    widest = int(np.floor(-np.log2(reach)))

    def loss(exponent: int) -> float:
        codes = rounded(np.ldexp(sample, exponent)).clip(low, high)
        return float(np.square(np.ldexp(codes.astype(np.float64), -exponent) - sample).sum())

    return min((widest, widest + 1, widest + 2), key=loss)


def row_exponents(weight: Tensor, bits: int) -> Tensor:
    """Exponent per row with the least squared error: the finest that clips nothing, or one finer.

    Args:
        weight: (out, in).
        bits: Width of the codes, 2 to 8.

    Returns:
        (out,) int64.
    """
    values = weight.double().numpy()
    widest = weight_exponents(np.abs(values).max(1), bits)

    def losses(exponents: np.ndarray) -> np.ndarray:
        codes = fixed_codes(values, exponents[:, None], bits=bits)
        lost = np.ldexp(codes.astype(np.float64), -exponents[:, None]) - values
        return np.asarray(np.square(lost).sum(1))

    return torch.from_numpy(np.where(losses(widest + 1) < losses(widest), widest + 1, widest))
