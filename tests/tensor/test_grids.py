import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.grids import absolute_maximum_steps, round_to_grid


@given(st.integers(2, 16), st.integers(1, 6), st.integers(1, 20), st.integers(0, 99))
def test_the_largest_weight_gets_the_largest_code(bits, rows, columns, seed):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    weight[0] = 0
    steps = absolute_maximum_steps(weight, bits)
    codes = round_to_grid(weight, steps[:, None])
    most = 2 ** (bits - 1) - 1
    assert steps[0] == 1 and (codes[0] == 0).all()
    assert (codes[1:].abs().amax(1) == most).all()
    assert ((weight - codes * steps[:, None]).abs() <= steps[:, None] * 0.5001).all()
