"""Inputs of the image classifiers: 30 photos to measure on, crops of 13 others to calibrate on."""

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models import Inputs
from benchmarks.models.photos import crops, open_photo, shuffled

SIZE, TEST, CALIBRATION, CROPS = 224, 30, 13, 12


def photos_and_crops(seed: int) -> tuple[list[Path], list[Tensor]]:
    """30 photos, and 156 crops (3, 224, 224) of 13 others, drawn by `seed`.

    Raises:
        PhotosMissingError: The photo packages are not installed.
    """
    photos = shuffled(seed, TEST + CALIBRATION)
    generator = torch.Generator().manual_seed(seed)
    calibration = [
        crop
        for path in photos[TEST : TEST + CALIBRATION]
        for crop in crops(open_photo(path), SIZE, CROPS, generator=generator)
    ]
    return photos[:TEST], calibration


def batches(images: list[Tensor], size: int = 16) -> tuple[Inputs, ...]:
    """Batches of (n, 3, 224, 224)."""
    return tuple({"pixels": torch.stack(images[i : i + size])} for i in range(0, len(images), size))
