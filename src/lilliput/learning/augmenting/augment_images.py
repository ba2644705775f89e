"""Augmentations of images that say where things are, and how sharp.

What comes into view from outside continues the edge, so no value appears that was not there,
whatever the range of values.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import chosen, each, uniform, whole
from lilliput.learning.augmenting.images import kornia, on_images

_FLIPS = "Krizhevsky, Sutskever and Hinton 2012, NIPS"
_AFFINE = "Simard, Steinkraus and Platt 2003, ICDAR"


class Flip(Augmentation):
    """Mirrors images left to right. Not for letters, digits, or whatever has a direction.

    Attributes:
        chance: Share of the images that are mirrored, 0 to 1.
    """

    name: ClassVar[str] = "flip"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _FLIPS
    summary: ClassVar[str] = "mirror images left to right"

    chance: float = Field(0.5, ge=0, le=1, json_schema_extra={"unit": "of the images"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Exact: values only change places."""
        return _flipped(self, given, generator, axis=3)


class FlipVertical(Augmentation):
    """Mirrors images top to bottom: for views from above, under a microscope, of the sky.

    Attributes:
        chance: Share of the images that are mirrored, 0 to 1.
    """

    name: ClassVar[str] = "flip_vertical"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _FLIPS
    summary: ClassVar[str] = "mirror images top to bottom"

    chance: float = Field(0.5, ge=0, le=1, json_schema_extra={"unit": "of the images"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Exact: values only change places."""
        return _flipped(self, given, generator, axis=2)


class Crop(Augmentation):
    """Widens images by some pixels on all sides and cuts them out again at a random place.

    Attributes:
        padding: Pixels on each side, 0 to 256: images move by at most so many.
    """

    name: ClassVar[str] = "crop"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = "He et al. 2015, arXiv 1512.03385"
    summary: ClassVar[str] = "pad images and crop them at a random place"

    padding: int = Field(4, ge=0, le=256, json_schema_extra={"unit": "pixels"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Exact: every value is one of the image's own."""

        def change(images: Tensor) -> Tensor:
            height, width = images.shape[2:]
            rows = self._places(height, generator, images)[:, :, None]  # (N, H, 1)
            columns = self._places(width, generator, images)[:, None]  # (N, 1, W)
            examples = torch.arange(len(images), device=images.device)[:, None, None]
            return images.movedim(1, -1)[examples, rows, columns].movedim(-1, 1).contiguous()

        return on_images(self.name, given, by=change, moves=True)

    def _places(self, size: int, generator: torch.Generator, images: Tensor) -> Tensor:
        """Which row, or column, of an image comes where, (N, size)."""
        moved = whole(generator, (-self.padding, self.padding), like=images)[:, None]
        return (torch.arange(size, device=images.device) + moved).clamp(0, size - 1)


class Rotate(Augmentation):
    """Turns images about their middle.

    Attributes:
        degrees: By at most so many, either way, 0 to 180.
    """

    name: ClassVar[str] = "rotate"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _AFFINE
    summary: ClassVar[str] = "turn images about their middle"
    needs: ClassVar[str] = "kornia"

    degrees: float = Field(15.0, ge=0, le=180, json_schema_extra={"unit": "degrees"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by an angle of its own."""
        transform = kornia("geometry.transform")

        def change(images: Tensor) -> Tensor:
            angles = uniform(generator, (-self.degrees, self.degrees), like=images)
            turned: Tensor = transform.rotate(images, angles, padding_mode="border")
            return turned

        return on_images(self.name, given, by=change, moves=True)


class Scale(Augmentation):
    """Enlarges or shrinks what images show, about their middle; the images keep their size.

    Attributes:
        amount: By at most this share, 0 to 0.9: factors from 1 - amount to 1 + amount.
    """

    name: ClassVar[str] = "scale"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = _AFFINE
    summary: ClassVar[str] = "enlarge or shrink what images show"
    needs: ClassVar[str] = "kornia"

    amount: float = Field(0.1, ge=0, le=0.9, json_schema_extra={"unit": "of the size"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by a factor of its own."""
        transform = kornia("geometry.transform")

        def change(images: Tensor) -> Tensor:
            factors = uniform(generator, (1 - self.amount, 1 + self.amount), like=images)
            both = factors[:, None].repeat(1, 2)  # (N, 2)
            scaled: Tensor = transform.scale(images, both, padding_mode="border")
            return scaled

        return on_images(self.name, given, by=change, moves=True)


class Blur(Augmentation):
    """Makes images less sharp.

    Attributes:
        sigma: Width of the Gaussian, at most, in pixels, 0.01 to 20.
    """

    name: ClassVar[str] = "blur"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = "Hendrycks and Dietterich 2019, arXiv 1903.12261"
    summary: ClassVar[str] = "make images less sharp"
    needs: ClassVar[str] = "kornia"

    sigma: float = Field(1.0, ge=0.01, le=20, json_schema_extra={"unit": "pixels"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each image by a width of its own, half of the most or more."""
        filters = kornia("filters")

        def change(images: Tensor) -> Tensor:
            widths = uniform(generator, (self.sigma / 2, self.sigma), like=images)
            size = 2 * min(math.ceil(3 * self.sigma), min(images.shape[2:]) - 1) + 1
            both = widths[:, None].repeat(1, 2)  # (N, 2)
            blurred: Tensor = filters.gaussian_blur2d(images, size, both)
            return blurred

        return on_images(self.name, given, by=change, moves=False)


class Erase(Augmentation):
    """Covers a box of an image with the mean of each channel.

    Attributes:
        chance: Share of the images in which a box is covered, 0 to 1.
        area: Most of an image that a box covers, 0.02 to 0.9; the least is 0.02.
    """

    name: ClassVar[str] = "erase"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = "Zhong et al. 2017, arXiv 1708.04896"
    summary: ClassVar[str] = "cover a box of an image with its mean"

    chance: float = Field(0.5, ge=0, le=1, json_schema_extra={"unit": "of the images"})
    area: float = Field(0.2, ge=0.02, le=0.9, json_schema_extra={"unit": "of the image"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """A box per image, between three times as wide as high and the reverse."""

        def change(images: Tensor) -> Tensor:
            sides = self._sides(generator, images)
            spans = [
                _span(size, side, start=uniform(generator, (0, 1), like=images))
                for size, side in zip(images.shape[2:], sides, strict=True)
            ]
            box = spans[0][:, :, None] & spans[1][:, None, :]  # (N, H, W)
            struck = chosen(self.chance, generator, shape=(len(images),)).to(images.device)
            means = images.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
            return means.where((box & each(struck, box))[:, None], images)

        return on_images(self.name, given, by=change, moves=False)

    def _sides(self, generator: torch.Generator, images: Tensor) -> tuple[Tensor, Tensor]:
        """Height and width of each box as shares of the image's, (N,) each."""
        areas = uniform(generator, (0.02, self.area), like=images)
        ratios = uniform(generator, (-math.log(3), math.log(3)), like=images).exp()
        return (areas * ratios).sqrt().clamp(max=1), (areas / ratios).sqrt().clamp(max=1)


def _span(size: int, share: Tensor, *, start: Tensor) -> Tensor:
    """Places inside a stretch per example, (N, size) bool; `start` from 0 (first) to 1 (last)."""
    length = (share * size).round().clamp(1, size)  # (N,)
    first = (start * (size - length + 1)).floor()
    places = torch.arange(size, device=share.device)
    return (places >= first[:, None]) & (places < (first + length)[:, None])


def _flipped(
    flip: Flip | FlipVertical, given: Augmented, generator: torch.Generator, *, axis: int
) -> Augmented:
    def change(images: Tensor) -> Tensor:
        mirrored = chosen(flip.chance, generator, shape=(len(images),)).to(images.device)
        return images.flip(axis).where(each(mirrored, images), images)

    return on_images(flip.name, given, by=change, moves=True)
