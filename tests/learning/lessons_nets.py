"""Networks that learn in these tests."""

import torch
from torch import Tensor, nn


class Perceptron(nn.Module):
    """(N, 1, 8, 8) -> (N, 10)."""

    def __init__(self, hidden: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU())
        self.head = nn.Linear(hidden, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.body(pixels))


class Block(nn.Module):
    """A residual part with dropout."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(size, size, 3, padding=1)
        self.norm = nn.BatchNorm2d(size)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(torch.relu(self.norm(self.conv(x))))


class Convolutional(nn.Module):
    """(N, 1, 8, 8) -> (N, 10), with three residual blocks, BatchNorm and dropout."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, size, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(3)))
        self.head = nn.Linear(size, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.stem(pixels))).mean((2, 3)))
