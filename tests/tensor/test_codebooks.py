import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.codebooks import (
    centres,
    feedback_indices,
    nearest,
    solved_values,
    value_equations,
)
from lilliput.tensor.feedback import BLOCK
from lilliput.tensor.second_order import inverse_factor, layer_damage


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 20), st.integers(1, 500), st.integers(0, 100))
def test_centres_rise_and_lie_among_the_values(count, size, seed):
    values = draw(size, seed=seed)
    found = centres(values, torch.ones(size), count=count)
    assert found.shape == (count,) and (found.diff() >= 0).all()
    assert float(values.min()) - 1e-6 <= float(found.min())
    assert float(found.max()) <= float(values.max()) + 1e-6


def test_as_many_centres_as_clusters_find_them():
    spots = torch.tensor([-2.0, 0.0, 0.5, 3.0])
    values = spots.repeat(100) + 0.01 * draw(400)
    assert torch.allclose(centres(values, torch.ones(400), count=4), spots, atol=0.02)


def test_each_centre_is_the_mean_of_what_it_stands_for():
    values, weights = draw(2000), draw(2000, seed=1).abs()
    found = centres(values, weights, count=8)
    index = nearest(values, found).long()
    for place in range(8):
        mine = index == place
        mean = (values * weights)[mine].sum() / weights[mine].sum()
        assert float(found[place]) == pytest.approx(float(mean), abs=0.03)


def test_what_weighs_more_is_met_closer():
    values, weights = draw(2000), torch.ones(2000)
    weights[values > 1] = 100
    errors = []
    for some in (torch.ones(2000), weights):
        found = centres(values, some, count=8)
        lost = values - found[nearest(values, found).long()]
        errors.append(float(lost[values > 1].square().mean()))
    assert errors[1] < 0.5 * errors[0]


@given(st.integers(2, 9), st.integers(0, 50))
def test_nearest_is_nearest(count, seed):
    values, book = draw(60, seed=seed), draw(count, seed=seed + 1).sort().values
    found = nearest(values, book)
    distance = (values[:, None] - book).abs()
    assert torch.allclose(distance.gather(1, found.long()[:, None])[:, 0], distance.min(1).values)


@pytest.mark.parametrize("columns", [20, 2 * BLOCK + 7])
def test_feedback_costs_less_than_taking_the_nearest(columns):
    mix = torch.eye(columns) + 0.3 * draw(columns, columns, seed=1)
    second, weight = mix.t() @ mix, draw(30, columns, seed=2)
    book = torch.linspace(-2.5, 2.5, 8)
    factor = inverse_factor(second)
    fed = feedback_indices(weight / 1.1, factor, centres_=book, fixed=None)
    plain = nearest(weight / 1.1, book)
    damages = [
        float(layer_damage(weight, 1.1 * book[codes.long()], second).sum())
        for codes in (fed, plain)
    ]
    assert damages[0] < 0.8 * damages[1]


def test_given_indices_are_kept_and_made_up_for():
    weight, book = draw(10, 40), torch.tensor([-1.0, 0.0, 1.0])
    mix = torch.eye(40) + 0.3 * draw(40, 40, seed=1)
    fixed = torch.where(draw(10, 40, seed=3) > 0, 1, -1)
    found = feedback_indices(weight, inverse_factor(mix.t() @ mix), centres_=book, fixed=fixed)
    assert (found[fixed == 1] == 1).all() and len(found.unique()) == 3


def damage_of(values, weight, indices, second, worth):
    lost = layer_damage(weight, values[indices.long()], second)
    return float((lost * worth).sum())


@given(st.integers(2, 6), st.integers(0, 30))
def test_no_other_values_cost_less_for_the_same_indices(count, seed):
    mix = torch.eye(12) + 0.3 * draw(12, 12, seed=seed)
    second, weight = mix.t() @ mix, draw(9, 12, seed=seed + 1)
    worth = draw(9, seed=seed + 2).abs() + 0.1
    book = draw(count, seed=seed + 3).sort().values
    indices = nearest(weight, book)
    equations = value_equations(weight, indices, second=second, worth=worth, count=count)
    found = solved_values(equations, book, free=torch.ones(count, dtype=torch.bool))
    best = damage_of(found, weight, indices, second, worth)
    assert best <= damage_of(book, weight, indices, second, worth) * (1 + 1e-5)
    for other in (0.01 * draw(count, seed=k) for k in range(5)):
        assert best <= damage_of(found + other, weight, indices, second, worth) * (1 + 1e-5)


def test_values_that_are_held_or_unused_stay():
    weight, book = draw(6, 8), torch.tensor([-1.0, 0.0, 1.0, 50.0])
    indices = nearest(weight, book)
    equations = value_equations(weight, indices, second=torch.eye(8), worth=torch.ones(6), count=4)
    free = torch.tensor([True, False, True, True])
    found = solved_values(equations, book, free=free)
    assert found[1] == 0 and found[3] == 50
    assert float(found[2]) == pytest.approx(float(weight[indices == 2].mean()), abs=1e-4)
