"""The face detector MTCNN's three small networks (Zhang et al., arXiv 1604.02878).

`facenet-pytorch` ships their weights; importing it would want torchvision, so the networks are
written here after the paper's figures. The subject is the last of them, 0.39 M weights. Inputs:
scikit-image's 200 small pictures of faces and of no faces, and crops of photos.
"""

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.models import Inputs, Subject, package_folder, relative_error
from benchmarks.models.photos import crops, open_photo, shuffled

PHOTOS, CROPS = 20, 8


class Network(nn.Module):
    """Convolutions with PReLU, dense layers, and heads for face or not, box and landmarks.

    The layers have the names of the weight files.
    """

    def __init__(
        self, convolutions: list[nn.Module], dense: list[nn.Module], heads: list[nn.Module]
    ):
        super().__init__()
        self.order: list[str] = []
        for kind, layers in (("conv", convolutions), ("dense", dense)):
            for layer in layers:
                self._add(kind, layer)
        self.flat_after = len(convolutions)
        last = sum(name.startswith(("conv", "dense")) for name in self.order) + 1
        self.heads = [f"{'dense' if dense else 'conv'}{last}_{i + 1}" for i in range(len(heads))]
        for name, head in zip(self.heads, heads, strict=True):
            self.add_module(name, head)

    def _add(self, kind: str, layer: nn.Module) -> None:
        if isinstance(layer, nn.MaxPool2d):
            name = f"pool{sum(name.startswith('pool') for name in self.order) + 1}"
        else:
            number = sum(name.startswith(("conv", "dense")) for name in self.order)
            name = f"prelu{number}" if isinstance(layer, nn.PReLU) else f"{kind}{number + 1}"
        self.order.append(name)
        self.add_module(name, layer)

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) pixels from 0 to 255 -> (N, k): face or not, box, landmarks."""
        hidden = (pixels - 127.5) / 128
        for place, name in enumerate(self.order):
            if place == self.flat_after and name.startswith("dense"):
                hidden = hidden.permute(0, 3, 2, 1).flatten(1)  # the weights expect width first
            hidden = getattr(self, name)(hidden)
        return torch.cat([getattr(self, name)(hidden) for name in self.heads], 1)


def _conv(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, kernel), nn.PReLU(outputs)]


def _pool(size: int) -> list[nn.Module]:
    return [nn.MaxPool2d(size, 2, ceil_mode=True)]


def architecture(name: str) -> Network:
    """``pnet`` (12 pixels, fully convolutional), ``rnet`` (24) or ``onet`` (48), untrained."""
    if name == "pnet":
        body = [*_conv(3, 10, 3), *_pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3)]
        return Network(body, [], [nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)])
    if name == "rnet":
        body = [*_conv(3, 28, 3), *_pool(3), *_conv(28, 48, 3), *_pool(3), *_conv(48, 64, 2)]
        dense = [nn.Linear(576, 128), nn.PReLU(128)]
        return Network(body, dense, [nn.Linear(128, 2), nn.Linear(128, 4)])
    body = [*_conv(3, 32, 3), *_pool(3), *_conv(32, 64, 3), *_pool(3), *_conv(64, 64, 3)]
    body += [*_pool(2), *_conv(64, 128, 2)]
    dense = [nn.Linear(1152, 256), nn.PReLU(256)]
    return Network(body, dense, [nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)])


def network(name: str = "onet") -> Network:
    """One of the three networks with its weights."""
    model = architecture(name)
    path = package_folder("facenet_pytorch") / f"data/{name}.pt"
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval().requires_grad_(False)


def faces(size: int = 48) -> Tensor:
    """scikit-image's 100 faces and 100 other pictures, (200, 3, size, size), 0 to 255."""
    grey = torch.from_numpy(np.load(package_folder("skimage") / "data/lfw_subset.npy")).float()
    scaled = nn.functional.interpolate(grey[:, None] * 255, size=size, mode="bilinear")
    return scaled.expand(-1, 3, -1, -1).contiguous()


def batches(pictures: Tensor, size: int = 64) -> tuple[Inputs, ...]:
    """Batches of (n, 3, 48, 48)."""
    return tuple({"pixels": part} for part in pictures.split(size))


def load(seed: int) -> Subject:
    """O-Net: half of the faces and crops of photos to calibrate, the other half to measure.

    Raises:
        PhotosMissingError: The photo packages are not installed.
    """
    generator = torch.Generator().manual_seed(seed)
    photos = shuffled(seed, 2 * PHOTOS)
    pictures = faces()[torch.randperm(200, generator=generator)]
    found = [
        crop
        for path in photos[: 2 * PHOTOS]
        for crop in crops(open_photo(path), 48, CROPS, generator=generator)
    ]
    half = len(found) // 2
    model = network()
    return Subject(
        name="mtcnn",
        model=model,
        calibration=batches(torch.cat([pictures[:100], torch.stack(found[:half])])),
        test=batches(torch.cat([pictures[100:], torch.stack(found[half:])])),
        errors=relative_error,
        sites=tuple(name for name, value in model.named_parameters() if value.ndim > 1),
    )
