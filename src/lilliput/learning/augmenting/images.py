"""How augmentations reach the images of a batch, of any type and range of values."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lilliput.errors import MissingExtraError
from lilliput.learning.augmenting.augmentation import Augmented
from lilliput.learning.augmenting.input_forms import (
    check_targets_stay,
    is_images,
    the_one,
    with_parts,
)

TOLD = "images (N, 1 or 3, H, W)"


def on_images(
    name: str, given: Augmented, *, by: Callable[[Tensor], Tensor], moves: bool
) -> Augmented:
    """A batch whose images were changed.

    Args:
        name: Of the augmentation.
        given: A batch.
        by: float32 or float64 images (N, C, H, W) -> new ones; what it is given it leaves.
            Images of another type are converted, and their changed values rounded back.
        moves: It changes where things are, so a target per pixel would no longer fit.

    Raises:
        TaskError: There are no images, or more than one input of them.
    """
    key, images = the_one(name, given.inputs, wanted=is_images, told=TOLD)
    if moves:
        check_targets_stay(name, given, places=tuple(images.shape[2:]))
    exact = images.dtype in (torch.float32, torch.float64)
    changed = by(images if exact else images.float())
    if images.dtype == torch.uint8:
        changed = changed.round().clamp(0, 255)
    return Augmented(with_parts(given.inputs, {key: changed.to(images.dtype)}), given.targets)


def on_colours(name: str, given: Augmented, *, by: Callable[[Tensor], Tensor]) -> Augmented:
    """A batch whose colours were changed on a scale from 0 to 1.

    The lowest value that a channel has anywhere in the batch is its 0, the highest its 1: so images
    in [0, 1], in [0, 255] and normalised ones are changed alike, and none leaves that range.

    Args:
        name: Of the augmentation.
        given: A batch.
        by: Images with values from 0 to 1 -> new ones.

    Raises:
        TaskError: As `on_images`.
    """

    def scaled(images: Tensor) -> Tensor:
        low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
        span = high - low  # (1, C, 1, 1)
        unit = (images - low) / span.where(span > 0, 1)
        return low + span * by(unit).clamp(0, 1)

    return on_images(name, given, by=scaled, moves=False)


def kornia(part: str) -> Any:
    """A module of kornia.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module(f"kornia.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "kornia":
            raise
        raise MissingExtraError(
            "augmenting images needs kornia", "pip install lilliput[vision]"
        ) from error
