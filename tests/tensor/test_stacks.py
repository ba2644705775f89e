"""Two small kernels for a large one."""

import torch
from torch.nn.functional import conv2d

from lilliput.tensor.stacks import composed, refitted_last, stacked

GENERATOR = torch.Generator().manual_seed(0)


def relative(found, weight):
    return float((found - weight).norm() / weight.norm())


def test_composed_is_what_two_convolutions_do():
    first = torch.randn(4, 3, 3, 3, generator=GENERATOR)
    last = torch.randn(5, 4, 3, 3, generator=GENERATOR)
    x = torch.randn(2, 3, 9, 9, generator=GENERATOR)
    assert torch.allclose(
        conv2d(conv2d(x, first), last), conv2d(x, composed(first, last)), atol=1e-4
    )
    assert composed(first, last).shape == (5, 3, 5, 5)


def test_a_kernel_that_is_a_composition_is_nearly_met():
    first = torch.randn(3, 4, 3, 3, generator=GENERATOR)
    last = torch.randn(6, 3, 3, 3, generator=GENERATOR)
    weight = composed(first, last)
    assert relative(composed(*stacked(weight, middle=3)), weight) < 0.02
    exact = refitted_last(weight, first, rest=[3, 3])
    assert relative(composed(first, exact), weight) < 1e-3


def test_more_channels_between_are_nearer():
    weight = torch.randn(8, 8, 5, 5, generator=GENERATOR)
    errors = [relative(composed(*stacked(weight, middle=n)), weight) for n in (2, 6, 11)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.8
