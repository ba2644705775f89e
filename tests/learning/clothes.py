"""A small convolutional network on part of Fashion-MNIST, trained in seconds."""

from functools import cache

import pytest
import torch
from torch import nn

from examples import fashion_mnist
from lilliput.task import Task

needs_data = pytest.mark.skipif(
    not fashion_mnist.FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist"
)


class Small(nn.Module):
    """Two convolutions with BatchNorm and two linear layers: 15,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.hidden, self.head = nn.Linear(32 * 16, 20), nn.Linear(20, 10)

    def forward(self, pixels):
        found = self.norm1(self.first(pixels - 0.29)).relu()
        found = nn.functional.max_pool2d(self.norm2(self.second(found)).relu(), 2, padding=1)
        return self.head(self.hidden(found.flatten(1)).relu())


@cache
def pictures():
    return fashion_mnist.read("t10k")


@cache
def _weights():
    some = pictures().part(0, 4_000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(3):
            for chosen in torch.randperm(len(some)).split(64):
                loss = nn.functional.cross_entropy(model(some.pixels[chosen]), some.labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.eval().state_dict()


def trained():
    """The same weights every time, in an instance of its own."""
    model = Small()
    model.load_state_dict(_weights())
    return model.eval()


def clothes(**changes):
    """Training, calibration, search and proof pictures apart."""
    given = {
        "model": trained(),
        "metric": "accuracy",
        "train": pictures().part(0, 4_000),
        "calibration": pictures().part(4_000, 4_400),
        "search": pictures().part(4_400, 5_000),
        "proof": pictures().part(5_000, 7_000),
    }
    return Task(**(given | changes))
