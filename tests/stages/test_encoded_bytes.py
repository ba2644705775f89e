"""Bytes of encodings against the coder's own and the tensors' sizes."""

import pytest
import torch
from three_sites import made_profile

from lilliput.coding import code_bytes
from lilliput.model.encodings import Dense, LowRank, Masked
from lilliput.stages.encoded_bytes import encoded_bytes
from lilliput.techniques import QuantizeRound


def test_codes_are_estimated_as_coded_and_counted_as_installed():
    (grid,) = QuantizeRound(bits=5).apply(made_profile(), ("first",)).values()
    storage, installed = encoded_bytes(grid)
    steps = 4 * 96
    assert storage == pytest.approx(code_bytes(grid.codes.numpy()) + steps, rel=0.03, abs=60)
    assert installed == 96 * 128 + steps


def test_factors_add_up_and_masks_take_nothing():
    one, two = Dense(torch.ones(4, 8)), Dense(torch.ones(6, 4))
    assert encoded_bytes(LowRank((one, two), (6, 8))) == (4 * (32 + 24), 4 * (32 + 24))
    masked = Masked(torch.ones(4, 8), torch.ones(4, 8, dtype=torch.bool))
    assert encoded_bytes(masked) == (128, 128)
