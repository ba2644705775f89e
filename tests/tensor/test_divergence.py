import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lilliput.tensor.divergence import divergence

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def pair(shape, seed, spread=1.0):
    made = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=made) * spread


@given(shapes, st.integers(2, 7), st.integers(0, 999), st.floats(0.1, 20))
def test_of_class_scores_it_is_torchs_divergence(shape, classes, seed, spread):
    outputs, reference = pair((*shape, classes), seed, spread).double()
    expected = functional.kl_div(
        outputs.log_softmax(-1), reference.log_softmax(-1), log_target=True, reduction="none"
    )
    found = divergence(outputs, reference, classes=True)
    assert found == pytest.approx(float(expected.sum(-1).mean()), rel=1e-9, abs=1e-12)


@given(shapes, st.integers(0, 999))
def test_the_same_outputs_diverge_by_nothing(shape, seed):
    outputs, _ = pair((*shape, 3), seed)
    for classes in (True, False):
        assert divergence(outputs, outputs.clone(), classes=classes) == 0
    shifted = outputs + 5.0  # the same classes
    assert divergence(shifted, outputs, classes=True) == pytest.approx(0, abs=1e-6)


@given(shapes, st.integers(0, 999), st.floats(0.01, 3))
def test_of_other_outputs_it_is_the_relative_squared_error(shape, seed, share):
    _, reference = pair(shape, seed)
    found = divergence(reference * (1 + share), reference, classes=False)
    assert found == pytest.approx(share**2, rel=1e-4)


def test_a_reference_of_zeros_leaves_the_plain_error():
    found = divergence(torch.full((4, 2), 3.0), torch.zeros(4, 2), classes=False)
    assert found == 4 * 2 * 9


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_infinitely_far(value, classes):
    outputs, reference = pair((3, 4), 0)
    outputs[1, 2] = value
    assert divergence(outputs, reference, classes=classes) == math.inf
