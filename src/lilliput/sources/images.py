"""Images in a folder: one sub-folder per label, decoded when they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lilliput.batches import digest
from lilliput.errors import MissingExtraError, TaskError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"})
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Scale = float | tuple[float, ...]


@dataclass(frozen=True)
class ImageFolder:
    """A map-style sequence of images, (channels, height, width) float32; see `images`.

    Attributes:
        paths: The files, sorted by their path within the folder.
        labels: Class of each file, or None where the folder has no sub-folders.
        label_names: The sub-folders' names, sorted.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None
    label_names: tuple[str, ...]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["crop", "stretch"] = "crop"
    _cache: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        pixels = self.pixels(index)
        return pixels if self.labels is None else (pixels, self.labels[index])

    def pixels(self, index: int) -> Tensor:
        """The image as the model sees it: (pixel / 255 - mean) / std.

        Raises:
            TaskError: A file that is not an image.
        """
        values = _decode(self.paths[index], self.size, channels=len(self.mean), resize=self.resize)
        image = torch.from_numpy(values).permute(2, 0, 1).float() / 255  # (channels, H, W)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (image - mean[:, None, None]) / std[:, None, None]

    def fingerprint(self, index: int) -> bytes:
        """SHA-256 of the file's bytes, so that splitting decodes nothing."""
        if index not in self._cache:
            self._cache[index] = digest(self.paths[index].read_bytes())
        return self._cache[index]

    def describe(self, index: int) -> str:
        """The file's name, with its folder."""
        return "/".join(self.paths[index].parts[-2:])


def images(
    folder: str | Path,
    *,
    size: int | tuple[int, int] = 224,
    mean: Scale = IMAGENET_MEAN,
    std: Scale = IMAGENET_STD,
    resize: Literal["crop", "stretch"] = "crop",
) -> ImageFolder:
    """The images of a folder as examples; sub-folder = label, no sub-folders = no labels.

    Args:
        folder: Classes are the sub-folders in sorted order. Other files are left out.
        size: Pixels, one side or (height, width).
        mean: Subtracted from pixels in [0, 1], one number or one per channel. One mean and one std
            in a tuple, ``(0.5,)``, make grey images of one channel. Default: ImageNet's.
        std: Divisor, likewise.
        resize: ``crop`` scales the shorter side and cuts the middle out, ``stretch`` distorts.

    Raises:
        TaskError: No such folder, no images in it, images beside sub-folders, or a bad number.
        MissingExtraError: Pillow is not installed.
    """
    _pillow()
    root = Path(folder)
    if not root.is_dir():
        raise TaskError(
            f"{root} is not a folder of images",
            "name the folder that holds them, with one sub-folder per label where there are labels",
        )
    files = sorted(
        path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise TaskError(f"{root} holds no images", f"known are {', '.join(sorted(SUFFIXES))}")
    label_of = [path.relative_to(root).parts[0] for path in files if path.parent != root]
    if label_of and len(label_of) < len(files):
        raise TaskError(f"{root} holds images beside sub-folders", "sub-folder = label: move them")
    names = tuple(sorted(set(label_of)))
    labels = tuple(names.index(label) for label in label_of) if names else None
    sides = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(sides) < 1:
        raise TaskError(f"size {size!r} is not a number of pixels")
    means, deviations = _channels(mean, std)
    return ImageFolder(tuple(files), labels, names, sides, means, deviations, resize)


def _channels(mean: Scale, std: Scale) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std, one per channel; single numbers serve all of three channels."""
    given = [value for value in (mean, std) if isinstance(value, Sequence)]
    channels = len(given[0]) if given else 3
    full = [
        tuple(map(float, v)) if isinstance(v, Sequence) else (float(v),) * channels
        for v in (mean, std)
    ]
    if len(full[0]) != len(full[1]) or channels not in (1, 3):
        raise TaskError(f"mean {mean!r} and std {std!r} need one number, or one per channel")
    if not all(np.isfinite(full[0])) or not all(value > 0 for value in full[1]):
        raise TaskError(f"mean {mean!r}, std {std!r}: std must be above 0")
    return full[0], full[1]


def _pillow() -> Any:
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MissingExtraError(
            "reading images needs Pillow", "pip install lilliput[vision]"
        ) from error
    return PIL


def _decode(path: Path, size: tuple[int, int], *, channels: int, resize: str) -> np.ndarray:
    """Pixels (height, width, channels) uint8, upright, in the wanted size."""
    pil = _pillow()
    height, width = size
    try:
        with pil.Image.open(path) as opened:
            upright = pil.ImageOps.exif_transpose(opened)
            image = upright.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, pil.Image.DecompressionBombError) as error:
        raise TaskError(f"{path} cannot be read as an image: {error}") from error
    bilinear = pil.Image.Resampling.BILINEAR
    if resize == "crop":
        image = pil.ImageOps.fit(image, (width, height), bilinear)
    elif resize == "stretch":
        image = image.resize((width, height), bilinear)
    else:
        raise TaskError(f'resize {resize!r} is neither "crop" nor "stretch"')
    return np.array(image).reshape(height, width, channels)
