"""Numbers that are meant to be half precision and miss it by a rounding error."""

import numpy as np

_NEAR = 2.0**-20  # relative: fp32 rounding, and far below half precision's 2**-11


def snapped(values: np.ndarray) -> np.ndarray:
    """float32 values, those within a rounding error of a half-precision number moved onto it.

    Such numbers cost the packed file two bytes or less instead of four.
    """
    wide = values.astype(np.float64)
    with np.errstate(over="ignore"):
        half = wide.astype(np.float16).astype(np.float64)
    near = np.abs(half - wide) <= _NEAR * np.abs(wide) + 1e-12
    return np.asarray(np.where(near, half, wide), np.float32)
