"""Augmentations of whatever is floating point: images, sounds, tables."""

from typing import ClassVar

import torch
from pydantic import Field

from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import normal
from lilliput.learning.augmenting.input_forms import is_numbers, the_one, with_parts


class Noise(Augmentation):
    """Adds Gaussian noise, so strong against the example's own signal.

    The signal's power is the variance of the example's values, so neither an offset nor a scale of
    the inputs matters; an example that is constant stays as it is.

    Attributes:
        decibels: Signal over noise, -40 to 100 dB; 20 is noise of a tenth of the signal's
            amplitude.
    """

    name: ClassVar[str] = "noise"
    form: ClassVar[Form] = "numbers"
    source: ClassVar[str] = "Bishop 1995, Neural Computation 7(1)"
    summary: ClassVar[str] = "add noise at a signal-to-noise ratio"

    decibels: float = Field(20.0, ge=-40, le=100, json_schema_extra={"unit": "dB"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """The same ratio for every example."""
        key, values = the_one(
            self.name, given.inputs, wanted=is_numbers, told="floating point (N, ...)"
        )
        exact = values if values.dtype == torch.float64 else values.float()
        spread = exact.std(tuple(range(1, exact.ndim)), correction=0, keepdim=True)  # (N, 1, ...)
        noisy = exact + spread * 10 ** (-self.decibels / 20) * normal(generator, like=exact)
        return Augmented(with_parts(given.inputs, {key: noisy.to(values.dtype)}), given.targets)
