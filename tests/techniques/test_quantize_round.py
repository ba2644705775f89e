import dataclasses

import pytest
import torch

from lilliput.techniques import QuantizeRound


@pytest.mark.parametrize("bits", range(2, 9))
def test_codes_stay_within_their_width_and_use_it(profile, bits):
    for name, grid in QuantizeRound(bits=bits).apply(profile, profile.sites).items():
        most = 2 ** (bits - 1) - 1
        assert grid.codes.dtype == torch.int8 and grid.clipped == 0
        assert (grid.codes.int().abs().amax(1) == most).all(), name
        error = (profile.matrix(name) - grid.codes * grid.row_steps[:, None]).abs()
        assert (error <= 0.5001 * grid.row_steps[:, None]).all()


def test_damage_without_statistics_is_the_squared_error(profile):
    option = QuantizeRound().options(profile, "unseen")[0]
    value = QuantizeRound().apply(profile, ("unseen",))["unseen"].decode()
    error = float((profile.parameters["unseen"] - value).square().sum())
    assert option.damage == pytest.approx(error * profile.sites["unseen"].sensitivity, rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_one_step_for_the_whole_tensor(profile, symmetric):
    for name in profile.sites:
        weight = profile.matrix(name)
        technique = QuantizeRound(bits=4, per="tensor", symmetric=symmetric)
        found = technique.apply(profile, (name,))[name]
        steps = found.row_steps if symmetric else found.steps
        assert len(steps) == len(weight) and (steps == steps.flatten()[0]).all()
        low, high = min(float(weight.min()), 0), max(float(weight.max()), 0)
        wanted = float(weight.abs().max()) / 7 if symmetric else (high - low) / 15
        assert float(steps.flatten()[0]) == pytest.approx(wanted, rel=1e-3)


def test_a_lopsided_row_is_rounded_more_finely_with_a_zero_of_its_own(profile):
    lopsided = {**profile.parameters, "unseen": profile.parameters["unseen"] + 0.2}
    other = dataclasses.replace(profile, parameters=lopsided)
    errors = []
    for symmetric in (True, False):
        found = QuantizeRound(bits=4, symmetric=symmetric).apply(other, ("unseen",))["unseen"]
        errors.append(float((found.decode() - lopsided["unseen"]).square().sum()))
    assert errors[1] < 0.5 * errors[0]
    found = QuantizeRound(bits=4, symmetric=False).apply(other, ("unseen",))["unseen"]
    assert found.zeros.shape == (16, 1) and found.codes.max() == 15
