import pytest
import torch
from benchmarks.models import Subject, damage, divergence, outputs, relative_error
from benchmarks.models.photos import PhotosMissingError, centre, crops, shuffled
from benchmarks.models.resnet import untrained
from benchmarks.models.resnet20 import ResNet20
from PIL import Image
from torch import nn


def test_relative_error_by_hand():
    reference, changed = (
        torch.tensor([[3.0, 4.0], [0.0, 5.0]]),
        torch.tensor([[3.0, 4.0], [5.0, 0]]),
    )
    assert relative_error(reference, changed)["relative"] == pytest.approx(1.0)
    assert relative_error(reference, changed)["cosine"] == pytest.approx(0.5)


def test_divergence_by_hand():
    reference, changed = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.75, 0.25]]).log()
    errors = divergence(reference, changed)
    expected = 0.5 * torch.tensor([0.5 / 0.75, 0.5 / 0.25]).log().sum()
    assert errors["kl"] == pytest.approx(float(expected), rel=1e-6)
    assert errors["root_kl"] == pytest.approx(float(expected) ** 0.5, rel=1e-6)


def test_damage_replaces_weights_without_touching_the_model():
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    before = model.weight.clone()
    test = ({"input": torch.eye(2)},)
    subject = Subject("net", model, (), test, relative_error, ("weight",))
    reference = outputs(model, test)
    assert damage(subject, {"weight": torch.zeros(2, 2)}, reference)["relative"] == 1.0
    assert damage(subject, {}, reference)["relative"] == 0.0
    assert torch.equal(model.weight, before)


def test_crops_are_squares_of_the_photo():
    image = Image.new("RGB", (60, 40), (10, 20, 30))
    found = crops(image, 16, 3, generator=torch.Generator().manual_seed(0))
    assert [crop.shape for crop in found] == [(3, 16, 16)] * 3
    assert found[0][:, 0, 0].tolist() == [10, 20, 30]
    assert centre(image, 8).shape == (3, 8, 8)


def test_missing_photos_name_the_packages():
    with pytest.raises(PhotosMissingError, match="apt-get install mate-backgrounds"):
        shuffled(0, 10_000)


def test_the_untrained_network_is_the_same_every_time_and_scaled():
    photos = 255 * torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model, again = untrained(photos), untrained(photos)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # torchvision's resnet18
    with torch.inference_mode():
        hidden = model.norm(model.conv((photos - 127) / 128))
    assert hidden.mean().abs() < 0.05 and 0.9 < hidden.std() < 1.1
    assert not model.training


def test_resnet_20_is_as_large_as_in_the_paper():
    model = ResNet20().eval()
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    on_the_way = [one for one in layers if getattr(one, "kernel_size", None) == (1, 1)]
    assert len(layers) - len(on_the_way) == 20
    assert sum(one.numel() for one in model.parameters()) == 272_186
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
