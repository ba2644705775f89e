"""A network like ResNet18 (He et al., arXiv 1512.03385), 11.7 M weights: photo -> 1,000 numbers.

No trained weights come inside a package, so it's untrained: weights are drawn (He et al., arXiv
1502.01852) by a generator of their own, and BatchNorm has the statistics of photos. Its answers
mean nothing: only how far a file's answers are from them, and how fast the file is.
"""

import torch
from torch import Tensor, nn

from benchmarks.models import Subject, relative_error
from benchmarks.models.images import SIZE, batches, photos_and_crops
from benchmarks.models.photos import centre, open_photo

CHANNELS = (64, 128, 256, 512)
CLASSES = 1000
EVERY = 4  # of the calibration crops every fourth gives BatchNorm its statistics


class Block(nn.Module):
    """Two 3x3 convolutions and the way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.around: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.around = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        inner = self.norm1(self.conv1(hidden)).relu()
        return (self.norm2(self.conv2(inner)) + self.around(hidden)).relu()


class Classifier(nn.Module):
    """A 7x7 convolution, four stages of two blocks, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS[0], 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS[0])
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential()
        inputs = CHANNELS[0]
        for stage, outputs in enumerate(CHANNELS):
            self.blocks.append(Block(inputs, outputs, stride=1 if stage == 0 else 2))
            self.blocks.append(Block(outputs, outputs, stride=1))
            inputs = outputs
        self.dense = nn.Linear(inputs, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, 224, 224) pixels from 0 to 255 -> (N, 1000)."""
        hidden = self.pool(self.norm(self.conv((pixels - 127) / 128)).relu())
        return self.dense(self.blocks(hidden).mean((2, 3)))


def untrained(photos: Tensor) -> Classifier:
    """The network in evaluation mode, its BatchNorm statistics those of (N, 3, 224, 224) photos."""
    generator = torch.Generator().manual_seed(0)
    model = Classifier().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what is seen
    nn.init.zeros_(model.dense.bias)
    model.train()(photos)
    return model.eval()


def load(seed: int) -> Subject:
    """The network, 156 calibration crops and 30 test photos, both drawn by `seed`.

    Raises:
        PhotosMissingError: The photo packages are not installed.
    """
    photos, calibration = photos_and_crops(seed)
    model = untrained(torch.stack(calibration[::EVERY]))
    return Subject(
        name="resnet",
        model=model,
        calibration=batches(calibration),
        test=batches([centre(open_photo(path), SIZE) for path in photos]),
        errors=relative_error,
        sites=tuple(name for name, value in model.named_parameters() if value.ndim > 1),
    )
