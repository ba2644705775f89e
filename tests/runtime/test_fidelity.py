import numpy as np
import pytest

from lilliput.runtime.fidelity import fidelity, signal_to_noise


def test_decibels_by_hand():
    wanted = np.array([[3.0, 4.0]])
    assert signal_to_noise(wanted, wanted + np.array([[0.5, 0]])) == pytest.approx(20.0)
    assert signal_to_noise(wanted, wanted) is None


def test_batches_add_up():
    rng = np.random.default_rng(0)
    wanted, noise = rng.normal(size=(6, 3)), rng.normal(size=(6, 3)) * 1e-3
    whole = fidelity([(wanted, wanted + noise)])
    parts = fidelity([(wanted[:2], (wanted + noise)[:2]), (wanted[2:], (wanted + noise)[2:])])
    assert parts.decibels == pytest.approx(whole.decibels) and parts.examples == 6
    assert whole.largest_difference == pytest.approx(np.abs(noise).max())


def test_not_a_number_on_one_side_is_no_agreement():
    wanted = np.array([[1.0, np.nan], [np.inf, 2.0]])
    assert signal_to_noise(wanted, wanted.copy()) is None
    assert signal_to_noise(wanted, np.array([[np.nan, np.nan], [np.inf, 2.0]])) == -300
