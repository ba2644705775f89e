import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.grids import absolute_maximum_steps, clipped_steps, round_to_grid


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


def test_clipped_steps_are_never_worse_than_the_absolute_maximum():
    made = torch.Generator().manual_seed(6)
    weight = torch.randn(40, 60, generator=made) ** 3
    power = torch.rand(60, generator=made)

    def lost(steps):
        codes = torch.round(weight / steps[:, None]).clamp(-7, 7)
        return ((weight - codes * steps[:, None]).square() * power).sum(1)

    whole = absolute_maximum_steps(weight, 4)
    found = clipped_steps(weight, 4, power=power)
    assert (lost(found) <= lost(whole)).all() and float((found < whole).double().mean()) > 0.5
    assert (found >= 0.5 * whole).all() and (found <= whole).all()
