"""A second example: which piece of clothing is in the picture?

A small convolutional network, trained here in under a minute, on Fashion-MNIST (Xiao, Rasul and
Vollgraf, arXiv 1708.07747) as Debian packages it: `apt-get install dataset-fashion-mnist`. Then
`lilliput compress examples/fashion_mnist.py --storage 10% --drop 1%`.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import lilliput

FOLDER = Path("/usr/share/datasets/fashion-mnist")
LABELS = (
    "T-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CALIBRATION, SEARCH = 500, 1_000  # held out from the training pictures; all test pictures prove


class Classifier(nn.Module):
    """Three convolutions with batch normalisation and two linear layers: 0.4 M weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, 16, stride=1), *_block(16, 32, stride=2), *_block(32, 64, stride=2)
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, len(LABELS))
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 1, 28, 28) values from 0 to 1 -> (N, 10) logits."""
        return self.head(self.features(pixels - 0.29))


def _block(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


@dataclass(frozen=True)
class Pictures:
    """Examples as Lilliput takes them: ``[i]`` is (pixels (1, 28, 28), label)."""

    pixels: Tensor  # (N, 1, 28, 28) from 0 to 1
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.labels[index])

    def part(self, start: int, end: int) -> "Pictures":
        """The pictures from `start` up to `end`."""
        return Pictures(self.pixels[start:end], self.labels[start:end])


def read(subset: str) -> Pictures:
    """All pictures of ``train`` (60,000) or ``t10k`` (10,000).

    Raises:
        FileNotFoundError: The Debian package is not installed.
    """
    if not FOLDER.exists():
        raise FileNotFoundError(f"{FOLDER} is missing: apt-get install dataset-fashion-mnist")
    pixels = gzip.decompress((FOLDER / f"{subset}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{subset}-labels-idx1-ubyte.gz").read_bytes())
    images = torch.frombuffer(bytearray(pixels[16:]), dtype=torch.uint8)
    return Pictures(
        images.reshape(-1, 1, 28, 28).float() / 255,
        torch.frombuffer(bytearray(labels[8:]), dtype=torch.uint8).long(),
    )


def train(
    pictures: Pictures, *, epochs: int = 1, batch_size: int = 128, seed: int = 0
) -> nn.Module:
    """A trained network; the same one for the same seed, machine and number of threads."""
    torch.manual_seed(seed)
    model = Classifier()
    steps = epochs * -(-len(pictures) // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(pictures)).split(batch_size):
            outputs = model(pictures.pixels[chosen])
            loss = nn.functional.cross_entropy(outputs, pictures.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval().requires_grad_(False)


def task(seed: int = 0) -> "lilliput.Task":
    """The example as Lilliput takes it."""
    pictures = read("train")
    end = len(pictures) - CALIBRATION - SEARCH
    return lilliput.Task(
        model=train(pictures.part(0, end), seed=seed),
        metric="accuracy",
        calibration=pictures.part(end, end + CALIBRATION),
        search=pictures.part(end + CALIBRATION, len(pictures)),
        proof=read("t10k"),
        label_names=LABELS,
        name="Fashion-MNIST",
    )
