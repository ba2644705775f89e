"""Networks of the classics' size on Fashion-MNIST: ``python -m benchmarks.models.clothes``.

The command trains them, into the committed checkpoints in half precision, for every seed; with
names behind it, e.g. ``resnet20``, only those.
"""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from examples.fashion_mnist import read
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models.resnet20 import ResNet20
from benchmarks.record import SEEDS
from lilliput import Task, Training, finetune

FOLDER = Path(__file__).with_name("checkpoints")
CALIBRATION, SEARCH = 500, 1_500  # the last of the 60,000 training pictures
TRAINING = Training(epochs=10, batch_size=128, rate=1e-3, weight_decay=0.0)
DEEP = Training(
    epochs=10,
    batch_size=128,
    optimizer="sgd",
    rate=0.1,
    weight_decay=5e-4,
    warmup=0.1,
    augmentation="flip",
)


class LeNet300(nn.Module):
    """(N, 1, 28, 28) -> (N, 10): LeNet-300-100, 266,610 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(784, 300)
        self.second = nn.Linear(300, 100)
        self.head = nn.Linear(100, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = F.relu(self.first((pixels - 0.29).flatten(1)))
        return self.head(F.relu(self.second(hidden)))


class LeNet5(nn.Module):
    """(N, 1, 28, 28) -> (N, 10): LeNet-5 as Caffe has it, 431,080 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 20, 5)
        self.second = nn.Conv2d(20, 50, 5)
        self.hidden = nn.Linear(800, 500)
        self.head = nn.Linear(500, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.first(pixels - 0.29)), 2)
        maps = F.max_pool2d(F.relu(self.second(maps)), 2)
        return self.head(F.relu(self.hidden(maps.flatten(1))))


KINDS = {"lenet300": LeNet300, "lenet5": LeNet5, "resnet20": ResNet20}
LEARNING = {"lenet300": TRAINING, "lenet5": TRAINING, "resnet20": DEEP}


@cache
def task(kind: str, seed: int) -> Task:
    """A trained network; the 10,000 test pictures prove."""
    return task_of(trained(kind, seed))


def task_of(model: nn.Module) -> Task:
    """What a network has to do."""
    pictures = read("train")
    end = len(pictures) - CALIBRATION - SEARCH
    return Task(
        model=model,
        metric="accuracy",
        train=pictures.part(0, end),
        calibration=pictures.part(end, end + CALIBRATION),
        search=pictures.part(end + CALIBRATION, len(pictures)),
        proof=read("t10k"),
        name="Fashion-MNIST",
    )


def trained(kind: str, seed: int) -> nn.Module:
    """The network of a checkpoint; trained first where there is none."""
    path = FOLDER / f"{kind}_{seed}.safetensors"
    model = KINDS[kind]()
    if not path.exists():
        torch.manual_seed(seed)
        settings = replace(LEARNING[kind], seed=seed)
        found = finetune(task_of(KINDS[kind]()), training=settings).model
        FOLDER.mkdir(exist_ok=True)
        save_file(
            {name: _as(torch.half, value) for name, value in found.state_dict().items()}, path
        )
    model.load_state_dict({name: _as(torch.float, one) for name, one in load_file(path).items()})
    return model.eval()


def _as(kind: torch.dtype, value: Tensor) -> Tensor:
    """BatchNorm's counter stays a whole number."""
    return value.to(kind) if value.is_floating_point() else value


if __name__ == "__main__":
    for name in sys.argv[1:] or KINDS:
        for number in SEEDS:
            (FOLDER / f"{name}_{number}.safetensors").unlink(missing_ok=True)
            trained(name, number)
