"""Augmentations that mix examples with others of their batch; the targets become weighted pairs."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lilliput.errors import TaskError
from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import shuffled, uniform
from lilliput.learning.augmenting.images import TOLD
from lilliput.learning.augmenting.input_forms import (
    check_targets_stay,
    is_images,
    is_numbers,
    parts,
    the_one,
    with_parts,
)


class MixUp(Augmentation):
    """Every example becomes a weighted mean of itself and another of the batch.

    Attributes:
        alpha: The weight is drawn from Beta(alpha, alpha), once for a batch, 0.01 to 10.
    """

    name: ClassVar[str] = "mixup"
    form: ClassVar[Form] = "numbers"
    source: ClassVar[str] = "Zhang et al. 2017, arXiv 1710.09412"
    summary: ClassVar[str] = "blend examples and their targets"
    mixes: ClassVar[bool] = True

    alpha: float = Field(0.2, ge=0.01, le=10, json_schema_extra={"unit": "of the Beta"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Inputs of floating point; other inputs of the batch must not depend on the example.

        Raises:
            TaskError: Also where there are inputs beside it, which cannot be mixed.
        """
        key, values = the_one(
            self.name, given.inputs, wanted=is_numbers, told="floating point (N, ...)"
        )
        _check_alone(self.name, given)
        kept = _beta(self.alpha, generator)
        others = shuffled(generator, like=values)
        mixed = kept * values + (1 - kept) * values[others]
        return _mixed(given, with_parts(given.inputs, {key: mixed}), others, kept)


class CutMix(Augmentation):
    """A box of every image comes from another of the batch.

    Attributes:
        alpha: The share that stays is drawn from Beta(alpha, alpha), once for a batch, 0.01 to 10.
    """

    name: ClassVar[str] = "cutmix"
    form: ClassVar[Form] = "images"
    source: ClassVar[str] = "Yun et al. 2019, arXiv 1905.04899"
    summary: ClassVar[str] = "put a box of one image into another, and blend their targets"
    mixes: ClassVar[bool] = True

    alpha: float = Field(1.0, ge=0.01, le=10, json_schema_extra={"unit": "of the Beta"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Boxes of one size, each at a place of its own, wholly inside the image.

        Raises:
            TaskError: As `MixUp`; also where every pixel has a target.
        """
        key, images = the_one(self.name, given.inputs, wanted=is_images, told=TOLD)
        _check_alone(self.name, given)
        height, width = images.shape[2:]
        check_targets_stay(self.name, given, places=(height, width))
        side = (1 - _beta(self.alpha, generator)) ** 0.5
        sizes = round(height * side), round(width * side)
        others = shuffled(generator, like=images)
        spans = [
            _span(size, length, generator, images)
            for size, length in zip((height, width), sizes, strict=True)
        ]
        box = spans[0][:, None, :, None] & spans[1][:, None, None, :]  # (N, 1, H, W)
        kept = 1 - sizes[0] * sizes[1] / (height * width)
        inputs = with_parts(given.inputs, {key: images[others].where(box, images)})
        return _mixed(given, inputs, others, kept)


def _span(size: int, length: int, generator: torch.Generator, images: Tensor) -> Tensor:
    """Places inside a stretch of this length per example, (N, size) bool."""
    share = uniform(generator, (0, 1), like=images.float())
    first = (share * (size - length + 1)).floor()[:, None]
    places = torch.arange(size, device=images.device)
    return (places >= first) & (places < first + length)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A number from Beta(alpha, alpha), which torch cannot draw from a generator itself."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _mixed(given: Augmented, inputs: Any, others: Tensor, kept: float) -> Augmented:
    """Each pair of targets once for what is kept and once for what came from the others."""
    if all(targets is None for targets, _ in given.targets):
        return Augmented(inputs, given.targets)
    pairs = [
        pair
        for targets, weight in given.targets
        for pair in ((targets, weight * kept), (_taken(targets, others), weight * (1 - kept)))
    ]
    return Augmented(inputs, tuple(pairs))


def _taken(targets: Any, others: Tensor) -> Any:
    if isinstance(targets, Tensor):
        return targets[others.to(targets.device)]
    return [targets[int(place)] for place in others]


def _check_alone(name: str, given: Augmented) -> None:
    inputs = parts(given.inputs)
    if len(inputs) > 1:
        raise TaskError(
            f"{name} mixes examples, which have {len(inputs)} inputs here; it takes one",
            "leave it out of the policy",
        )
