"""The mixed-integer choice, against trying everything."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lilliput.tensor.choosing import GAP, least_cost, least_damage, undominated


def everything(damage, costs, limits):
    """Least total damage over all choices that keep the limits; None without one."""
    best = None
    for picks in product(*(range(len(d)) for d in damage)):
        spent = sum(c[i] for c, i in zip(costs, picks, strict=True))
        total = sum(d[i] for d, i in zip(damage, picks, strict=True))
        if (spent <= limits).all() and (best is None or total < best):
            best = total
    return best


@st.composite
def instances(draw):
    sites, kinds = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    made = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = [draw(st.integers(1, 4)) for _ in range(sites)]
    damage = [made.integers(0, 100, n).astype(float) for n in counts]
    costs = [made.integers(1, 60, (n, kinds)).astype(float) for n in counts]
    low = sum(c.min(0) for c in costs)
    high = sum(c.max(0) for c in costs)
    limits = np.floor(low + draw(st.floats(-0.1, 1)) * (high - low))
    return damage, costs, limits


@settings(max_examples=120, deadline=None)
@given(instances())
def test_nothing_better_keeps_the_limits(instance):
    damage, costs, limits = instance
    picks, best = least_damage(damage, costs, limits=limits), everything(damage, costs, limits)
    if best is None:
        assert picks is None
        return
    assert (sum(c[i] for c, i in zip(costs, picks, strict=True)) <= limits).all()
    total = sum(d[i] for d, i in zip(damage, picks, strict=True))
    assert total <= best * (1 + GAP) + 1e-9


@settings(max_examples=25, deadline=None)
@given(instances())
def test_the_same_choice_twice(instance):
    damage, costs, limits = instance
    assert least_damage(damage, costs, limits=limits) == least_damage(damage, costs, limits=limits)


def test_without_limits_the_least_damage_is_taken():
    damage = [np.array([2.0, 1.0]), np.array([0.0, 5.0])]
    costs = [np.array([[1.0], [9.0]]), np.array([[7.0], [1.0]])]
    assert least_damage(damage, costs, limits=np.array([np.inf])) == [1, 0]
    assert least_cost([c[:, 0] for c in costs]) == [0, 1]


def test_an_option_that_another_beats_is_left_out():
    costs = np.array([[1, 5], [2, 5], [2, 2], [1, 5], [0, 9]], float)
    assert undominated(costs).tolist() == [0, 2, 4]


@pytest.mark.parametrize("sites", [400])
def test_hundreds_of_sites_are_solved_close_to_the_bound(sites):
    """Against the linear relaxation by equal slopes, which no choice beats."""
    made = np.random.default_rng(0)
    worth = 10 ** made.uniform(-9, 3, sites)
    bits = np.arange(2.0, 9)
    damage = [w * 4.0**-bits for w in worth]
    costs = [bits[:, None] * made.uniform(1e3, 1e6) for _ in range(sites)]
    limit = 0.5 * sum(c.max() for c in costs)
    picks = least_damage(damage, costs, limits=np.array([limit]))
    spent = sum(c[i, 0] for c, i in zip(costs, picks, strict=True))
    total = sum(d[i] for d, i in zip(damage, picks, strict=True))
    slopes = np.logspace(-30, 2, 2000)
    bound = max(
        sum((d + s * c[:, 0]).min() for d, c in zip(damage, costs, strict=True)) - s * limit
        for s in slopes
    )
    assert spent <= limit and bound <= total <= 1.01 * bound
