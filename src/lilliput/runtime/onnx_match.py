"""Recognising a parameter in an array by its values alone."""

import hashlib

import numpy as np

_TOLERANCE = 1e-5  # of a row's largest weight, for a folded BatchNorm


def digest(array: np.ndarray) -> bytes:
    """SHA-256 of the numbers."""
    return hashlib.sha256(array.tobytes()).digest()


def fits(parameter: tuple[int, ...], stored: tuple[int, ...], turned: bool) -> bool:
    """Whether shapes differ by axes of length one (and a transposition) only."""
    left = tuple(size for size in parameter if size != 1)
    right = tuple(size for size in stored if size != 1)
    if turned:
        return len(left) == 2 and len(stored) == 2 and left[::-1] == right
    return left == right


def order(gates: tuple[int, ...], length: int) -> np.ndarray:
    """Rows of torch's stacked gates in the order in which ONNX stacks them."""
    return np.arange(length).reshape(len(gates), -1)[list(gates)].reshape(-1)


def rows_in(part: np.ndarray, whole: np.ndarray) -> np.ndarray | None:
    """Positions of consecutive rows of `whole` that equal `part`, or None."""
    if part.shape[1] != whole.shape[1] or len(part) >= len(whole):
        return None
    for start in np.flatnonzero(whole[: len(whole) - len(part) + 1, 0] == part[0, 0]):
        if np.array_equal(whole[start : start + len(part)], part):
            return np.arange(start, start + len(part))
    return None


def factor_of(array: np.ndarray, whole: np.ndarray, axis: int) -> np.ndarray | None:
    """Factors f along `axis` with array = f * whole, or None if there are none."""
    others = tuple(index for index in range(whole.ndim) if index != axis)
    exact = whole.astype(np.float64)
    power = np.square(exact).sum(axis=others, keepdims=True)
    factor = (exact * array).sum(axis=others, keepdims=True) / np.where(power == 0, 1, power)
    slack = _TOLERANCE * np.abs(array).max(axis=others, keepdims=True)
    if np.any(np.abs(array - factor * exact) > slack + 1e-30):
        return None
    return np.asarray(factor.astype(np.float32))
