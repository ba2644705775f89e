"""EfficientNet-Lite0 on more images: five crops of each of the 30 test photos.

Calibration photos are those of `benchmarks.models.efficientnet`, and none of the others. 150 images
are enough to tell agreement of 95 % from one of 85 %.
"""

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.models import Errors, Subject, divergence, efficientnet
from benchmarks.models.images import SIZE, batches, photos_and_crops
from benchmarks.models.photos import crops, open_photo

EACH = 5


def kept_answers(reference: Tensor, changed: Tensor) -> Errors:
    """`divergence`, the agreement as ``same_top_1``: on so many images it's worth a column."""
    found = divergence(reference, changed)
    return {"kl": found["kl"], "same_top_1": found["agreement"]}


def load(seed: int) -> Subject:
    """As `efficientnet.load`, with 150 test crops.

    Raises:
        PhotosMissingError: The photo packages are not installed.
    """
    photos, _ = photos_and_crops(seed)
    generator = torch.Generator().manual_seed(seed)
    fresh = [
        crop for path in photos for crop in crops(open_photo(path), SIZE, EACH, generator=generator)
    ]
    return replace(efficientnet.load(seed), test=batches(fresh), errors=kept_answers)
