import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.second_order import DAMPING, damped, inverse_factor, layer_damage

sizes = st.integers(1, 12)
seeds = st.integers(0, 1000)


def moments(columns, rows, *, seed, groups=1):
    made = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups, rows, columns, generator=made)
    return inputs.transpose(1, 2) @ inputs / rows


@given(sizes, st.integers(1, 40), seeds)
def test_the_factor_is_that_of_the_inverse(columns, rows, seed):
    second = moments(columns, rows, seed=seed, groups=2)
    factor = inverse_factor(second).double()
    assert torch.equal(factor, factor.triu())
    assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()
    product = factor.transpose(1, 2) @ factor @ damped(second)
    torch.testing.assert_close(product, torch.eye(columns).double().expand(2, -1, -1),
                               atol=2e-3, rtol=0)  # fmt: skip


def test_damping_adds_a_share_of_the_mean_diagonal_and_changes_nothing_given():
    second = moments(6, 20, seed=1)
    before = second.clone()
    mean = float(second.diagonal(dim1=-2, dim2=-1).mean())
    expected = second.double() + DAMPING * mean * torch.eye(6).double()
    torch.testing.assert_close(damped(second), expected)
    assert torch.equal(second, before)
    torch.testing.assert_close(damped(second, 0.0), second.double())


def test_dead_and_repeated_inputs_can_be_factorised():
    second = moments(5, 30, seed=2)[0]
    second[2], second[:, 2] = 0, 0  # dead
    second[4], second[:, 4] = second[3].clone(), second[:, 3].clone()  # a twin
    second[4, 4] = second[3, 3]
    assert torch.isfinite(inverse_factor(second)).all()
    assert torch.isfinite(inverse_factor(torch.zeros(3, 3))).all()


def test_one_over_the_squared_diagonal_is_the_cost_of_an_error_the_rest_absorbs():
    second = moments(7, 60, seed=3)[0]
    factor = inverse_factor(second, damping=0.0).double()
    for place in range(7):
        rest = slice(place, 7)
        inverse = torch.linalg.inv(second.double()[rest, rest])
        assert 1 / factor[place, place] ** 2 == pytest.approx(1 / float(inverse[0, 0]), rel=1e-4)
        moved = factor[place, rest] / factor[place, place]  # the error and where it goes
        cost = moved @ second.double()[rest, rest] @ moved
        assert float(cost) == pytest.approx(1 / float(inverse[0, 0]), rel=1e-4)


@given(sizes, sizes, seeds)
def test_damage_is_the_trace_formula(rows, columns, seed):
    made = torch.Generator().manual_seed(seed)
    weight, replaced = torch.randn(2, rows, columns, generator=made, dtype=torch.float64)
    second = moments(columns, 30, seed=seed)[0].double()
    found = layer_damage(weight, replaced, second)
    error = weight - replaced
    assert found.shape == (rows,)
    torch.testing.assert_close(found, (error @ second @ error.t()).diagonal())
    assert float(found.sum()) == pytest.approx(float(torch.trace(error @ second @ error.t())))


def test_damage_is_the_mean_squared_error_of_the_output():
    made = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 8, generator=made, dtype=torch.float64)
    weight, replaced = torch.randn(2, 5, 8, generator=made, dtype=torch.float64)
    moved = (inputs @ (weight - replaced).t()).square().mean(0)  # (5,)
    torch.testing.assert_close(layer_damage(weight, replaced, inputs.t() @ inputs / 50), moved)


def test_damage_of_groups_is_that_of_each_group():
    made = torch.Generator().manual_seed(0)
    weight, replaced = torch.randn(2, 12, 6, generator=made)
    second = moments(6, 30, seed=4, groups=4)
    found = layer_damage(weight, replaced, second)
    for group in range(4):
        own = slice(3 * group, 3 * group + 3)
        alone = layer_damage(weight[own], replaced[own], second[group])
        torch.testing.assert_close(found[own], alone)
