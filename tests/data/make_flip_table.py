"""Makes `flip_table.npz`: what a real classifier and its 3-bit copy answer on 10,000 images.

A small network is trained on Fashion-MNIST's training half (Debian: `dataset-fashion-mnist`), its
weights are rounded to nearest on 3-bit grids per row, and both answer the 10,000 test images. The
table is the population from which `tests/test_calibration.py` draws. Columns, one row per image:
`label`, `original` and `artifact` (predicted classes, uint8), `original_error` and
`artifact_error` (squared error of the predicted probabilities, float32).

Run: ``python tests/data/make_flip_table.py``
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

IMAGES = Path("/usr/share/datasets/fashion-mnist")
LEVELS = 3  # codes -3..3: a 3-bit grid


def read_images(name: str) -> Tensor:
    """(N, 784) float32 in [0, 1] from an idx3 file."""
    raw = gzip.decompress((IMAGES / name).read_bytes())
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=16).copy()).view(-1, 784) / 255


def read_labels(name: str) -> Tensor:
    """(N,) int64 from an idx1 file."""
    raw = gzip.decompress((IMAGES / name).read_bytes())
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=8).astype(np.int64))


def train(images: Tensor, labels: Tensor) -> nn.Sequential:
    """Two epochs of Adam, batches of 128."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(2):
        for batch in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    return net


@torch.no_grad()
def round_weights(net: nn.Sequential) -> None:
    """Rounds every matrix to nearest on a symmetric grid per row, in place."""
    for layer in net:
        if isinstance(layer, nn.Linear):
            step = layer.weight.abs().amax(1, keepdim=True) / LEVELS  # (out, 1)
            layer.weight.copy_((layer.weight / step).round() * step)


@torch.no_grad()
def answer(net: nn.Sequential, images: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes (N,) and squared errors of the probabilities (N,)."""
    probabilities = net(images).softmax(1)
    wanted = nn.functional.one_hot(labels, 10)
    error = (probabilities - wanted).square().sum(1)
    return probabilities.argmax(1).numpy().astype(np.uint8), error.numpy().astype(np.float32)


def main() -> None:
    """Trains, rounds, answers, writes the table beside this file."""
    net = train(
        read_images("train-images-idx3-ubyte.gz"), read_labels("train-labels-idx1-ubyte.gz")
    )
    images, labels = (
        read_images("t10k-images-idx3-ubyte.gz"),
        read_labels("t10k-labels-idx1-ubyte.gz"),
    )
    original, original_error = answer(net, images, labels)
    round_weights(net)
    artifact, artifact_error = answer(net, images, labels)
    np.savez_compressed(
        Path(__file__).with_name("flip_table.npz"),
        label=labels.numpy().astype(np.uint8),
        original=original,
        artifact=artifact,
        original_error=original_error,
        artifact_error=artifact_error,
    )


if __name__ == "__main__":
    main()
