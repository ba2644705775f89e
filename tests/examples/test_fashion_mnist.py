import pytest
import torch

from examples import fashion_mnist

needs_data = pytest.mark.skipif(
    not fashion_mnist.FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist"
)


@needs_data
def test_pictures_have_labels():
    pictures = fashion_mnist.read("t10k")
    pixels, label = pictures[0]
    assert len(pictures) == 10_000
    assert pixels.shape == (1, 28, 28) and pixels.min() >= 0 and pixels.max() == 1
    assert fashion_mnist.LABELS[label] == "ankle boot"


@needs_data
def test_a_short_training_is_repeatable_and_learns():
    pictures = fashion_mnist.read("t10k")
    models = [fashion_mnist.train(pictures.part(0, 3_000), batch_size=64, seed=3) for _ in range(2)]
    assert torch.equal(models[0].head[1].weight, models[1].head[1].weight)
    rest = pictures.part(3_000, 4_000)
    answers = models[0](rest.pixels).argmax(1)
    assert (answers == rest.labels).float().mean() > 0.5
