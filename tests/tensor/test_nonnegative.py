"""Non-negative least squares near a prior, against what the numbers were made from."""

import numpy as np
import pytest

from lilliput.tensor.nonnegative import near_prior


def test_what_enough_measurements_tell_is_found():
    made = np.random.default_rng(0)
    design, true = made.uniform(0, 1, (40, 4)), np.array([0.0, 0.5, 2.0, 1.0])
    found = near_prior(design, design @ true, prior=np.full(4, 1.0), strength=1e-4)
    assert found == pytest.approx(true, abs=0.01)


def test_what_was_not_measured_is_the_prior():
    design = np.array([[1.0, 0.0], [2.0, 0.0]])
    found = near_prior(design, np.array([3.0, 6.0]), prior=np.array([3.0, 0.7]))
    assert found == pytest.approx([3.0, 0.7])


def test_nothing_gets_below_zero():
    found = near_prior(np.eye(2), np.array([-5.0, 1.0]), prior=np.zeros(2))
    assert found[0] == 0 and found[1] == pytest.approx(1 / 1.05)
