"""ResNet-20 (He et al. 2015, arXiv 1512.03385, section 4.2) for pictures of 28 pixels."""

from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 10


class Residual(nn.Module):
    """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.way = nn.Sequential()  # a 1x1 convolution where the shape changes: option B
        if stride > 1:
            step = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.way = nn.Sequential(step, nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        hidden = F.relu(self.first_norm(self.first(maps)))
        return F.relu(self.second_norm(self.second(hidden)) + self.way(maps))


class ResNet20(nn.Module):
    """(N, 1, 28, 28) -> (N, 10): widths 16, 32, 64, three blocks each, 272,186 weights.

    The first convolution has stride 2, not 1 as in the paper, so that maps are of 14, 7 and 4
    pixels: a quarter of the multiply-adds, and of the minutes of a pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        widths = ((16, 16, 1), (16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 32, 1),
                  (32, 64, 2), (64, 64, 1), (64, 64, 1))  # fmt: skip
        blocks = [Residual(inputs, outputs, stride=step) for inputs, outputs, step in widths]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = F.relu(self.stem_norm(self.stem(pixels - 0.29)))
        return self.head(self.blocks(maps).mean((2, 3)))
