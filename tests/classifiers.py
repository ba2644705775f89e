"""Two small classifiers, trained in a second, and their tasks."""

from functools import cache

import torch
from torch import Tensor, nn

from lilliput.task import Task

CLASSES = 4
SIZE = 12


class Perceptron(nn.Module):
    """Three layers on flattened images; two of them read the same values."""

    def __init__(self, width: int = 160) -> None:
        super().__init__()
        self.first = nn.Linear(SIZE * SIZE, width)
        self.second, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.first(image.flatten(1)).relu()
        hidden = self.second(hidden) * self.gate(hidden).sigmoid()
        return self.head(self.norm(hidden))


class Convolutions(nn.Module):
    """A plain, a depthwise and a dense convolution, each with its BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(1, 48, 3, stride=2, bias=False), nn.BatchNorm2d(48)
        self.deep, self.norm2 = nn.Conv2d(48, 48, 3, groups=48, padding=1), nn.BatchNorm2d(48)
        self.wide, self.norm3 = nn.Conv2d(48, 96, 3, bias=False), nn.BatchNorm2d(96)
        self.head = nn.Linear(96, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.norm1(self.stem(image)).relu()
        hidden = self.norm2(self.deep(hidden)).relu()
        hidden = self.norm3(self.wide(hidden)).relu()
        return self.head(hidden.mean((2, 3)))


@cache
def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy pictures of four patterns, (count, 1, SIZE, SIZE), and which it is, (count,)."""
    made = torch.Generator().manual_seed(1)
    patterns = torch.randn(CLASSES, 1, SIZE, SIZE, generator=made)
    made.manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=made)
    noise = torch.randn(count, 1, SIZE, SIZE, generator=made)
    return patterns[labels] * 0.45 + noise, labels


def trained(kind: type[nn.Module], *, seed: int = 0, steps: int = 60) -> nn.Module:
    """The same weights for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = kind()
        images, labels = pictures(1024, 10 + seed)
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for step in range(steps):
            some = slice(128 * (step % 8), 128 * (step % 8) + 128)
            loss = nn.functional.cross_entropy(net(images[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def task_of(net: nn.Module, count: int = 2000, **changes: object) -> Task:
    images, labels = pictures(count, 99)
    examples = [(image, int(label)) for image, label in zip(images, labels, strict=True)]
    sizes = {"calibration_size": count // 8, "search_size": count // 4}
    fields = {"examples": examples, "metric": "accuracy", "name": "patterns", **sizes, **changes}
    return Task(model=net, **fields)
