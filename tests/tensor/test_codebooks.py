import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.codebooks import (
    centres,
    feedback_indices,
    nearest,
)
from lilliput.tensor.feedback import BLOCK, row_factor
from lilliput.tensor.second_order import inverse_factor, layer_damage, two_sided_damage


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


def test_rows_absorb_what_other_rows_err():
    columns, out = 24, 96
    mix, across = (torch.eye(n) + 0.3 * draw(n, n, seed=n) for n in (columns, out))
    second, output = mix.t() @ mix, across.t() @ across
    weight, book = draw(out, columns), torch.linspace(-2.5, 2.5, 8)
    factor = inverse_factor(second)
    lost = []
    for rows in (None, row_factor(output)):
        found = feedback_indices(weight, factor, centres_=book, rows=rows)
        value = book[found.long()]
        lost.append(two_sided_damage(weight, value, second=second, output=output))
    assert lost[1] < 0.85 * lost[0]
