"""What augmentations do to images: by hand, and on Fashion-MNIST."""

import pytest
import torch
from examples.fashion_mnist import FOLDER, read

from lilliput.errors import MissingExtraError, TaskError
from lilliput.learning.augmenting import images as reached
from lilliput.learning.augmenting.policy import AUGMENTATIONS, Policy

RANGES = {"unit": (1.0, 0.0), "bytes": (255.0, 0.0), "normalised": (4.1, -2.1)}
IMAGES = [kind.name for kind in AUGMENTATIONS if kind.form == "images"]


def through(text, inputs, targets=None, seed=0):
    return Policy.parse(text)(inputs, targets, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def photos():
    """Smooth colours, each channel from 0 to 1: (8, 3, 16, 16)."""
    small = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    small.flatten(2)[0, :, :2] = torch.tensor([0.0, 1.0])
    return torch.nn.functional.interpolate(small, scale_factor=4, mode="nearest")


def test_a_flip_mirrors_and_mirrors_back(photos):
    once = through("flip(chance=1)", photos).inputs
    assert torch.equal(once, photos.flip(3))
    assert torch.equal(through("flip_vertical(chance=1)", photos).inputs, photos.flip(2))
    assert torch.equal(through("flip(chance=0)", photos).inputs, photos)
    some = through("flip", photos.repeat(100, 1, 1, 1)).inputs
    share = (some == photos.repeat(100, 1, 1, 1)).flatten(1).all(1).float().mean()
    assert share == pytest.approx(0.5, abs=0.05)


def test_a_crop_moves_by_whole_pixels_and_continues_the_edge():
    image = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(500, 1, 1, 1)
    cropped = through("crop(padding=2)", image).inputs[:, 0]
    padded = torch.nn.functional.pad(image[:1], (2, 2, 2, 2), mode="replicate")[0, 0]
    windows = {padded[y : y + 8, x : x + 8] for y in range(5) for x in range(5)}
    seen = [sum(torch.equal(one, window) for one in cropped) for window in windows]
    assert sum(seen) == 500 and min(seen) > 5  # 20 each are to be expected


def test_turning_by_half_a_turn_and_back_is_the_identity(photos):
    """A quarter of the pixels would differ if it turned about a corner."""
    drawn = torch.Generator().manual_seed(0)
    angles = 360 * torch.rand(8, generator=drawn) - 180
    turned = through("rotate(degrees=180)", photos).inputs
    for image, angle, found in zip(photos, angles, turned, strict=True):
        quarter = round(float(angle) / 90)
        near = torch.rot90(image, quarter, (1, 2))
        if abs(float(angle) - 90 * quarter) < 3:
            assert (found - near).abs().mean() < 0.15
    middle = torch.zeros(4, 1, 9, 9)
    middle[:, :, 4, 4] = 1.0
    assert torch.allclose(through("rotate", middle).inputs[:, :, 4, 4], torch.ones(4, 1), atol=1e-4)


def test_scaling_keeps_the_middle_and_stays_within_the_factor():
    bar = torch.zeros(200, 1, 33, 33)
    bar[:, :, :, 12:21] = 1.0  # 9 wide
    widths = through("scale(amount=0.5)", bar).inputs[:, 0, 16].sum(1)
    assert 0.5 * 9 - 1 < widths.min() < 6 and 12 < widths.max() < 1.5 * 9 + 1


def test_a_blur_keeps_the_mean_and_lowers_the_spread(photos):
    blurred = through("blur(sigma=2)", photos).inputs
    assert torch.allclose(blurred.mean((2, 3)), photos.mean((2, 3)), atol=0.1)
    assert (blurred.std((2, 3)) < 0.9 * photos.std((2, 3))).all()


def test_an_erased_box_has_the_mean_of_its_channel(photos):
    noise = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = through("erase(chance=1, area=0.3)", noise).inputs
    for before, after in zip(noise, found, strict=True):
        gone = (before != after).all(0)
        rows, columns = gone.any(1), gone.any(0)
        assert 0 < gone.sum() == rows.sum() * columns.sum() <= 0.45 * 256  # one box
        assert torch.allclose(after[:, gone], before.mean((1, 2))[:, None].expand(3, gone.sum()))


def test_brightness_and_contrast_by_formula(photos):
    added = 2 * 0.3 * torch.rand(8, generator=torch.Generator().manual_seed(0)) - 0.3
    low, high = photos.amin((0, 2, 3), keepdim=True), photos.amax((0, 2, 3), keepdim=True)
    unit = (photos - low) / (high - low)
    right = (unit + added[:, None, None, None]).clamp(0, 1) * (high - low) + low
    found = through("brightness(amount=0.3)", photos).inputs
    assert torch.allclose(found, right, atol=1e-5)
    mean = unit.mean((1, 2, 3), keepdim=True)
    right = (mean + (unit - mean) * (1 + added)[:, None, None, None]).clamp(0, 1)
    found = through("contrast(amount=0.3)", photos).inputs
    assert torch.allclose(found, right * (high - low) + low, atol=1e-5)


def test_without_saturation_an_image_is_grey_and_hue_turns_colours(photos):
    pale = through("saturation(amount=1)", photos.repeat(8, 1, 1, 1)).inputs
    chroma = (pale.amax(1) - pale.amin(1)).mean((1, 2))
    assert chroma.min() < 0.3 * chroma.max()
    turned = through("hue(amount=0.5)", photos).inputs
    assert torch.allclose(turned.amax(1), photos.amax(1), atol=1e-2)  # the value of HSV stays
    assert (turned - photos).abs().mean() > 0.05
    grey = photos[:, :1]
    for name in ("saturation", "hue"):
        assert torch.equal(through(name, grey).inputs, grey)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("span", RANGES)
def test_any_range_of_values_is_changed_alike(photos, name, span):
    """Normalised images become what the images they came from would have become."""
    scale, offset = RANGES[span]
    shift = offset + torch.tensor([0.0, 0.1, -0.2])[:, None, None] * (span == "normalised")
    one = through(name, photos, seed=3).inputs
    two = (through(name, scale * photos + shift, seed=3).inputs - shift) / scale
    steps = 0.3 if name == "randaugment" else 1e-4  # a value at the edge of a level may change it
    assert (one - two).abs().max() < steps
    assert (one - two).abs().mean() < 1e-3


def test_a_target_per_pixel_forbids_what_moves_pixels(photos):
    pixels = torch.zeros(8, 16, 16, dtype=torch.int64)
    for name in ("flip", "crop", "rotate", "scale", "randaugment", "cutmix"):
        with pytest.raises(TaskError, match=rf"{name} moves positions, and the targets \(8, 16"):
            through(name, photos, pixels)
    assert through("brightness, blur", photos, pixels).targets[0][0] is pixels


def test_mixup_by_formula_and_cutmix_by_area():
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 10, 10).contiguous()
    labels = torch.arange(6)
    found = through("mixup(alpha=1)", images, labels)
    (own, kept), (others, rest) = found.targets
    assert torch.equal(own, labels) and sorted(others.tolist()) == list(range(6))
    assert kept + rest == pytest.approx(1) and 0 < kept < 1
    right = kept * images + rest * others.float()[:, None, None, None]
    assert torch.allclose(found.inputs, right, atol=1e-5)
    cut = through("cutmix", images, list("abcdef"))
    (own, kept), (others, _) = cut.targets
    assert own == list("abcdef") and sorted(others) == own
    for row in range(6):
        mean = kept * row + (1 - kept) * "abcdef".index(others[row])
        assert cut.inputs[row].mean() == pytest.approx(mean, abs=1e-4)
        assert len(cut.inputs[row].unique()) <= 2


def test_mixing_twice_multiplies_the_weights():
    found = through("mixup(alpha=1), cutmix", torch.rand(4, 1, 8, 8), torch.arange(4))
    assert len(found.targets) == 4
    assert sum(weight for _, weight in found.targets) == pytest.approx(1)
    with pytest.raises(TaskError, match=r"mixup mixes examples, which have 2 inputs"):
        through("mixup", (torch.rand(4, 1, 8, 8), torch.arange(4)))


def test_without_kornia_the_command_is_named(monkeypatch, photos):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="kornia")

    monkeypatch.setattr(reached, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install lilliput\[vision\]"):
        through("rotate", photos)
    assert torch.equal(through("flip(chance=1)", photos).inputs, photos.flip(3))


@pytest.mark.skipif(not FOLDER.exists(), reason="a Debian package")
def test_on_fashion_mnist_pictures_stay_what_they_are():
    """The nearest of 2,000 untouched pictures still has the label of most augmented ones."""
    pictures = read("t10k")
    known, asked = pictures.pixels[:2000].flatten(1), pictures.pixels[2000:2300]
    labels, right = pictures.labels[:2000], pictures.labels[2000:2300]

    def score(text):
        found = through(text, asked, right).inputs
        assert found.shape == asked.shape and found.min() >= 0 and found.max() <= 1 + 1e-5
        nearest = torch.cdist(found.flatten(1), known).argmin(1)
        return float((labels[nearest] == right).float().mean())

    plain = score("none")
    assert plain > 0.7
    mild = score("crop(padding=1), rotate(degrees=5), brightness(amount=0.05)")
    assert plain - 0.2 < mild
    assert score("flip_vertical(chance=1), rotate(degrees=90)") < mild - 0.1
