"""RandAugment: a few of fourteen changes of an image, drawn anew for each."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import each, uniform, whole
from lilliput.learning.augmenting.images import kornia, on_colours
from lilliput.learning.augmenting.input_forms import check_targets_stay, is_images, the_one

# Images (n, C, H, W) from 0 to 1 and a strength from -1 to 1 for each -> changed images.
Change = Callable[[Tensor, Tensor], Tensor]


class RandAugment(Augmentation):
    """Puts each image through a few changes, drawn with equal chances from fourteen.

    They are those of the paper at its greatest strengths: identity, stretched contrast, equalized,
    turned by up to 30 degrees, values inverted above a threshold, saturation, fewer levels down to
    4 bits, contrast, brightness and sharpness by up to 90 %, sheared by up to 0.3 in two
    directions, moved by up to 45 % of the image in two.

    Attributes:
        count: Changes of each image, one after the other, 1 to 14.
        magnitude: How strong they are, 0 to 10, which is the greatest strength.
    """

    name: ClassVar[str] = "randaugment"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = "Cubuk et al. 2019, arXiv 1909.13719"
    summary: ClassVar[str] = "put each image through a few of fourteen changes"
    needs: ClassVar[str] = "kornia"

    count: int = Field(2, ge=1, le=14, json_schema_extra={"unit": "changes"})
    magnitude: float = Field(9.0, ge=0, le=10, json_schema_extra={"unit": "of 10"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by changes of its own, each with a sign of its own."""
        _, found = the_one(
            self.name, given.inputs, wanted=is_images, told="images (N, 1 or 3, H, W)"
        )
        check_targets_stay(self.name, given, places=tuple(found.shape[2:]))
        changes = _changes()

        def change(images: Tensor) -> Tensor:
            images = images.clone()
            for _ in range(self.count):
                which = whole(generator, (0, len(changes) - 1), like=images)
                signs = uniform(generator, (-1, 1), like=images).sign()
                for place, each_change in enumerate(changes):
                    rows = (which == place).nonzero()[:, 0]
                    if len(rows):
                        strength = signs[rows] * self.magnitude / 10
                        images[rows] = each_change(images[rows], strength).clamp(0, 1)
            return images

        return on_colours(self.name, given, by=change)


def _changes() -> tuple[Change, ...]:
    enhance = kornia("enhance")
    return (
        lambda images, strength: images,
        lambda images, strength: _stretched(images),
        lambda images, strength: enhance.equalize(images),
        lambda images, strength: enhance.solarize(images, 1 - strength.abs()),
        lambda images, strength: _saturated(enhance, images, strength),
        lambda images, strength: _levels(images, 8 - (4 * strength.abs()).round()),
        _contrasted,
        lambda images, strength: images * each(1 + 0.9 * strength, images),
        lambda images, strength: enhance.sharpness(images, 1 + 0.9 * strength),
        *_moves(kornia("geometry.transform")),
    )


def _moves(transform: Any) -> tuple[Change, ...]:
    def sheared(axis: int) -> Change:
        return lambda images, strength: transform.shear(
            images, _along(axis, 0.3 * strength), padding_mode="border"
        )

    def moved(axis: int) -> Change:
        return lambda images, strength: transform.translate(
            images, _along(axis, 0.45 * images.shape[3 - axis] * strength), padding_mode="border"
        )

    def turned(images: Tensor, strength: Tensor) -> Tensor:
        found: Tensor = transform.rotate(images, 30 * strength, padding_mode="border")
        return found

    return (turned, sheared(0), sheared(1), moved(0), moved(1))


def _along(axis: int, amounts: Tensor) -> Tensor:
    """An amount per image along x (0) or y (1), (n, 2)."""
    both = amounts.new_zeros(len(amounts), 2)
    both[:, axis] = amounts
    return both


def _stretched(images: Tensor) -> Tensor:
    """Each channel of each image from its lowest value to its highest."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = high - low
    return ((images - low) / span.where(span > 0, 1)).where(span > 0, images)


def _saturated(enhance: Any, images: Tensor, strength: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images
    found: Tensor = enhance.adjust_saturation(images, 1 + 0.9 * strength)
    return found


def _levels(images: Tensor, bits: Tensor) -> Tensor:
    """The values that so many bits of an eight-bit image can hold."""
    step = each(2 ** (8 - bits), images)
    return ((255 * images).round() / step).floor() * step / 255


def _contrasted(images: Tensor, strength: Tensor) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * each(1 + 0.9 * strength, images)
