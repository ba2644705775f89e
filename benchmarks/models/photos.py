"""Real photos that come inside packages: 43 different ones, as (3, size, size) float tensors.

Sources: scikit-image (16), scikit-learn (2) and the Debian packages `mate-backgrounds` (12) and
`lomiri-wallpapers-16.04` (13). `apt-get install mate-backgrounds lomiri-wallpapers-16.04`.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

SCIENCE = [
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
]
LEARN = ("china.jpg", "flower.jpg")
MATE = Path("/usr/share/backgrounds/mate/nature")
LOMIRI = Path("/usr/share/backgrounds")
DRAWN = ("analogpattern_by_Peter_Nerlich.jpg", "umang_by_Abhishek_Mudgal.jpg")  # no photos


class PhotosMissingError(RuntimeError):
    """Fewer photos on this machine than a row needs."""


def paths() -> list[Path]:
    """Every photo on this machine, in a fixed order."""
    found = []
    for package, folder, names in (
        ("skimage", "data", SCIENCE),
        ("sklearn", "datasets/images", LEARN),
    ):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            found += [Path(spec.origin).parent / folder / name for name in names]
    found += sorted(MATE.glob("*.jpg"))
    found += sorted(path for path in LOMIRI.glob("*_by_*.jpg") if path.name not in DRAWN)
    return [path for path in found if path.exists()]


def shuffled(seed: int, at_least: int) -> list[Path]:
    """The photos in an order drawn by `seed`.

    Raises:
        PhotosMissingError: Fewer than `at_least` are installed.
    """
    found = paths()
    if len(found) < at_least:
        raise PhotosMissingError(
            f"{len(found)} photos are installed and {at_least} are needed: "
            "apt-get install mate-backgrounds lomiri-wallpapers-16.04"
        )
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    return [found[i] for i in order.tolist()]


def open_photo(path: Path, longest: int = 1024) -> Image.Image:
    """The photo in RGB, at most `longest` pixels on its longer side."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    return image


def centre(image: Image.Image, size: int) -> Tensor:
    """The largest central square, scaled: (3, size, size), values 0 to 255."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return _square(image, (left, top, left + side, top + side), size)


def crops(image: Image.Image, size: int, count: int, *, generator: torch.Generator) -> list[Tensor]:
    """Random squares between 0.4 and 1 of the shorter side, (3, size, size) each, 0 to 255."""
    found = []
    for _ in range(count):
        scale, x, y = torch.rand(3, generator=generator).tolist()
        side = round(min(image.size) * (0.4 + 0.6 * scale))
        left, top = round(x * (image.width - side)), round(y * (image.height - side))
        found.append(_square(image, (left, top, left + side, top + side), size))
    return found


def _square(image: Image.Image, box: tuple[int, int, int, int], size: int) -> Tensor:
    square = image.crop(box).resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8)
    return pixels.reshape(size, size, 3).permute(2, 0, 1).float()
