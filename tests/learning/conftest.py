"""The digits: 1,797 real pictures of 8 x 8 pixels that come with scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lessons_nets import Perceptron
from sklearn.datasets import load_digits

from lilliput import Task

Examples = list[tuple[torch.Tensor, int]]


@pytest.fixture(autouse=True)
def weights_of_fresh_networks_are_the_same():
    """Whatever ran before: a network that begins badly may keep its first weights."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits() -> Examples:
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    pixels = torch.from_numpy(found.images.astype(np.float32) / 16)[:, None]
    return [(pixels[place], int(found.target[place])) for place in order]


@pytest.fixture
def digits_task(digits) -> Callable[..., Task]:
    """A task over the digits; by default with a fresh perceptron."""

    def make(model=None, **fields) -> Task:
        if model is None:
            torch.manual_seed(0)
            model = Perceptron()
        parts = {
            "train": digits[:1000],
            "calibration": digits[1000:1100],
            "search": digits[1100:1400],
            "proof": digits[1400:],
            "metric": "accuracy",
        }
        return Task(model=model, **(parts | fields))

    return make
