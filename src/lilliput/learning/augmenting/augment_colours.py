"""Augmentations of colours: on a scale from the batch's lowest value, 0, to its highest, 1.

The scale is each channel's own, so normalised images are changed as the ones they came from.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import each, uniform
from lilliput.learning.augmenting.images import kornia, on_colours

_SOURCE = "Howard 2013, arXiv 1312.5402"


class Brightness(Augmentation):
    """Makes images brighter or darker.

    Attributes:
        amount: At most so much is added or taken away, 0 to 1; 1 is the whole range.
    """

    name: ClassVar[str] = "brightness"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _SOURCE
    summary: ClassVar[str] = "make images brighter or darker"
    needs: ClassVar[str] = "kornia"

    amount: float = Field(0.2, ge=0, le=1, json_schema_extra={"unit": "of the range"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by an amount of its own."""
        enhance = kornia("enhance")

        def change(images: Tensor) -> Tensor:
            added = uniform(generator, (-self.amount, self.amount), like=images)
            brighter: Tensor = enhance.adjust_brightness(images, added)
            return brighter

        return on_colours(self.name, given, by=change)


class Contrast(Augmentation):
    """Moves values away from the image's mean or towards it.

    Attributes:
        amount: Factors from 1 - amount to 1 + amount, 0 to 1.
    """

    name: ClassVar[str] = "contrast"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _SOURCE
    summary: ClassVar[str] = "give images more or less contrast"

    amount: float = Field(0.2, ge=0, le=1, json_schema_extra={"unit": "of the contrast"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by a factor of its own, about the mean of all its channels."""

        def change(images: Tensor) -> Tensor:
            factors = uniform(generator, (1 - self.amount, 1 + self.amount), like=images)
            mean = images.mean((1, 2, 3), keepdim=True)
            return mean + (images - mean) * each(factors, images)

        return on_colours(self.name, given, by=change)


class Saturation(Augmentation):
    """Makes colours stronger or paler; images of one channel stay as they are.

    Attributes:
        amount: Factors from 1 - amount to 1 + amount, 0 to 1.
    """

    name: ClassVar[str] = "saturation"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _SOURCE
    summary: ClassVar[str] = "make colours stronger or paler"
    needs: ClassVar[str] = "kornia"

    amount: float = Field(0.2, ge=0, le=1, json_schema_extra={"unit": "of the saturation"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by a factor of its own."""
        enhance = kornia("enhance")

        def change(images: Tensor) -> Tensor:
            factors = uniform(generator, (1 - self.amount, 1 + self.amount), like=images)
            stronger: Tensor = images
            if images.shape[1] == 3:
                stronger = enhance.adjust_saturation(images, factors)
            return stronger

        return on_colours(self.name, given, by=change)


class Hue(Augmentation):
    """Turns colours about the colour wheel; images of one channel stay as they are.

    Attributes:
        amount: By at most so much either way, 0 to 0.5; 0.5 is half a turn, the opposite colour.
    """

    name: ClassVar[str] = "hue"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _SOURCE
    summary: ClassVar[str] = "turn colours about the colour wheel"
    needs: ClassVar[str] = "kornia"

    amount: float = Field(0.05, ge=0, le=0.5, json_schema_extra={"unit": "turns"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by an angle of its own."""
        enhance = kornia("enhance")

        def change(images: Tensor) -> Tensor:
            turns = uniform(generator, (-self.amount, self.amount), like=images)
            turned: Tensor = images
            if images.shape[1] == 3:
                turned = enhance.adjust_hue(images, 2 * math.pi * turns)
            return turned

        return on_colours(self.name, given, by=change)
