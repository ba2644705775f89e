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
