import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lilliput.errors import MissingExtraError, TaskError
from lilliput.sources import images


def paint(path, *, size=(10, 8), value=None, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    if value is not None:
        pixels[:] = value
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path):
    for n, name in enumerate(["dog/b.png", "cat/a.png", "dog/deep/a.png", "cat/c.PNG"]):
        paint(tmp_path / name, seed=n)
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    return tmp_path


def test_sub_folders_are_labels_in_sorted_order(photos):
    found = images(photos, size=4)
    assert found.label_names == ("cat", "dog")
    assert [found.describe(i) for i in range(4)] == [
        "cat/a.png", "cat/c.PNG", "dog/b.png", "deep/a.png",
    ]  # fmt: skip
    assert [found[i][1] for i in range(4)] == [0, 0, 1, 1]
    assert found[0][0].shape == (3, 4, 4)
    assert len({found.fingerprint(i) for i in range(4)}) == 4


def test_without_sub_folders_there_are_no_labels(tmp_path):
    paint(tmp_path / "a.png")
    found = images(tmp_path, size=(4, 6))
    assert isinstance(found[0], torch.Tensor)
    assert found[0].shape == (3, 4, 6)


def test_pixels_are_scaled_by_mean_and_std(tmp_path):
    paint(tmp_path / "a.png", value=(0, 51, 255))
    image = images(tmp_path, size=2, mean=(0.0, 0.1, 0.5), std=(1.0, 0.5, 0.25))[0]
    wanted = torch.tensor([0.0, (0.2 - 0.1) / 0.5, 2.0])
    torch.testing.assert_close(image, wanted[:, None, None].expand(3, 2, 2))
    grey = images(tmp_path, size=2, mean=(0.5,), std=(0.5,))[0]
    assert grey.shape == (1, 2, 2)


def test_crop_keeps_the_proportions_and_stretch_does_not(tmp_path):
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 255  # the middle third is white
    Image.fromarray(pixels).save(tmp_path / "a.png")
    plain = {"size": 8, "mean": 0.0, "std": 1.0}
    assert float(images(tmp_path, **plain)[0].min()) == 1.0
    assert float(images(tmp_path, **plain, resize="stretch")[0].mean()) == pytest.approx(1 / 3, 0.1)


def test_turned_photos_are_put_upright(tmp_path):
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, :4] = 255
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=turned)
    image = images(tmp_path, size=(4, 8), mean=0.0, std=1.0)[0]
    assert float(image[:, :, :4].max()) == 0.0
    assert float(image[:, :, 4:].min()) == 1.0


def test_a_folder_that_cannot_be_used(tmp_path):
    with pytest.raises(TaskError, match="is not a folder of images"):
        images(tmp_path / "nowhere")
    with pytest.raises(TaskError, match="holds no images"):
        images(tmp_path)
    paint(tmp_path / "a.png")
    paint(tmp_path / "cat" / "a.png")
    with pytest.raises(TaskError, match="images beside sub-folders"):
        images(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size 0 is not a number of pixels"),
        ({"std": 0.0}, "std must be above 0"),
        ({"mean": float("nan"), "std": 1.0}, "std must be above 0"),
        ({"mean": (0.5, 0.5)}, "one number, or one per channel"),
    ],
)
def test_bad_numbers(photos, settings, message):
    with pytest.raises(TaskError, match=message):
        images(photos, **settings)


def test_a_damaged_image_is_named(photos):
    (photos / "cat" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(TaskError, match=r"a\.png cannot be read as an image"):
        images(photos)[0]


def test_without_pillow(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"pip install lilliput\[vision\]"):
        images(photos)
