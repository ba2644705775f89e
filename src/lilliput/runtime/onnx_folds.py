"""BatchNorm that the exporter folded into the layer before it, kept adjustable.

A layer W x + b followed by BatchNorm (gamma, beta, mean, variance) is exported as one layer with
weight f W and bias f (b - mean) + beta, where f = gamma / sqrt(variance + eps). New values of
gamma, beta and b follow from the old ones without knowing mean and variance: with r = gamma' /
gamma the factor becomes r f and the bias r (bias - beta) + beta' + r f (b' - b).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lilliput.model.encodings import Dense
from lilliput.tensor.halves import snapped


@dataclass(frozen=True)
class Fold:
    """One folded BatchNorm.

    Attributes:
        parameter: Name of the layer's weight.
        weight: Its value.
        use: (node, input position) that reads the folded bias.
        gamma: Name of the BatchNorm's weight.
        beta: Name of the BatchNorm's bias.
        layer_bias: Name of the layer's own bias, or None.
        factor: f, one per output channel, (out,).
        bias: The folded bias in the file, (out,).
        old: Values with which the model was exported, by name.
    """

    parameter: str
    weight: np.ndarray
    use: tuple[str, int]
    gamma: str
    beta: str
    layer_bias: str | None
    factor: np.ndarray
    bias: np.ndarray
    old: Mapping[str, np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters whose new values `refold` takes."""
        return tuple(self.old)

    def ratio(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """New over old factor, (out,)."""
        old, new = self.old[self.gamma], values.get(self.gamma)
        if new is None:
            return np.ones_like(self.factor)
        return np.asarray(np.where(old == 0, 1, new / np.where(old == 0, 1, old)), np.float32)

    def refold(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The folded bias for new values; exact in half precision where it nearly is."""
        ratio = self.ratio(values).astype(np.float64)
        beta = self.old[self.beta].astype(np.float64)
        bias = ratio * (self.bias - beta) + values.get(self.beta, beta)
        if self.layer_bias is not None:
            shift = values.get(self.layer_bias, self.old[self.layer_bias])
            bias = bias + ratio * self.factor * (shift - self.old[self.layer_bias])
        return snapped(bias)


def half_precision_biases(
    folds: Iterable[Fold], values: Mapping[str, np.ndarray]
) -> dict[str, Dense]:
    """New BatchNorm biases with which the folded biases in the file fit half precision exactly.

    The BatchNorm's own parameters are not in the file; rounding them would save nothing there.

    Args:
        folds: All of them.
        values: New values of parameters that are folded, by name.

    Returns:
        Name of each beta -> its new value; those whose folded bias is too large or too small for
        11 bits are left out.
    """
    found = {}
    for fold in folds:
        known = any(name in values for name in fold.names)
        bias = fold.refold(values) if known else fold.bias
        size = np.abs(bias[bias != 0])
        if np.any((size > 65504) | (size < 2.0**-14)):
            continue
        half = bias.astype(np.float16).astype(np.float64)
        beta = values.get(fold.beta, fold.old[fold.beta]) + (half - bias)
        found[fold.beta] = Dense(torch.from_numpy(beta.astype(np.float32)))
    return found
