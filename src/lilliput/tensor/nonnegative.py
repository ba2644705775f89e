"""Non-negative least squares that stay near what is known already."""

import numpy as np
from scipy.optimize import nnls

STRENGTH = 0.05  # weight of the prior against the measurements


def near_prior(
    design: np.ndarray, wanted: np.ndarray, *, prior: np.ndarray, strength: float = STRENGTH
) -> np.ndarray:
    """Coefficients >= 0 with least squared error plus distance from a prior.

    Each coefficient's distance counts in the unit of `wanted`, by the size of its column.

    Args:
        design: (measurements, coefficients) >= 0.
        wanted: (measurements,).
        prior: (coefficients,) >= 0.
        strength: Share of a column's squared size that the prior counts for, > 0.

    Returns:
        (coefficients,) >= 0; the prior itself where nothing was measured.
    """
    sizes = np.sqrt(strength * np.square(design).sum(0)) + 1e-12 * (1 + np.abs(design).max())
    found, _ = nnls(np.vstack([design, np.diag(sizes)]), np.concatenate([wanted, sizes * prior]))
    return np.asarray(found)
