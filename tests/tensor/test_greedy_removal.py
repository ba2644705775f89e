"""Greedy removal against what least squares says by itself."""

import pytest
import torch

from lilliput.tensor.greedy_removal import Reading, greedy_removal
from lilliput.tensor.second_order import damped


def reading(units, size, rows, seed, extra=0):
    made = torch.Generator().manual_seed(seed)
    columns = units * size + extra
    mix = torch.randn(columns, columns, generator=made, dtype=torch.float64)
    weight = torch.randn(rows, columns, generator=made, dtype=torch.float64)
    order = torch.randperm(columns, generator=made)[: units * size]
    return Reading(weight, mix @ mix.T / columns, order.reshape(units, size))


def left_over(one, gone):
    """What the best weights on the remaining inputs still miss, by an independent solution."""
    second = damped(one.second)
    lost = one.inputs[gone].flatten()
    stays = torch.ones(len(second), dtype=torch.bool).index_fill(0, lost, False)
    weight = one.weight
    best = torch.linalg.solve(second[stays][:, stays], (weight @ second)[:, stays].T).T
    full = torch.zeros_like(weight).index_copy(1, stays.nonzero()[:, 0], best)
    return float(((weight - full) @ second * (weight - full)).sum())


@pytest.mark.parametrize("size", [1, 3])
def test_costs_add_up_to_what_least_squares_leaves_over(size):
    readings = [reading(24, size, 10, 0), reading(24, size, 5, 1, extra=7)]
    order, costs = greedy_removal(readings, 15)
    total = sum(left_over(one, order) for one in readings)
    steps = [
        sum(left_over(one, order[: k + 1]) for one in readings)
        - sum(left_over(one, order[:k]) for one in readings)
        for k in range(15)
    ]
    assert total == pytest.approx(sum(steps)) and len(set(order.tolist())) == 15
    running = torch.tensor(steps, dtype=torch.float64).cummax(0).values
    assert torch.allclose(costs[order], running, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2])
def test_each_step_takes_the_unit_that_costs_least_by_trying_all(size):
    one = reading(9, size, 4, 3)
    order, costs = greedy_removal([one], 5)
    for k in range(5):
        rest = [unit for unit in range(9) if unit not in order[:k].tolist()]
        tried = {unit: left_over(one, torch.tensor([*order[:k].tolist(), unit])) for unit in rest}
        assert int(order[k]) == min(tried, key=tried.get)
    stays = [unit for unit in range(9) if unit not in order.tolist()]
    assert float(costs[stays].min()) >= float(costs[order].max())


def test_more_units_than_are_held_back_between_two_flushes():
    one = reading(100, 1, 6, 5)
    order, costs = greedy_removal([one], 90)
    total = left_over(one, order)
    steps = torch.tensor([left_over(one, order[: k + 1]) for k in range(90)], dtype=torch.float64)
    alone = torch.cat([steps[:1], steps.diff()])
    assert torch.allclose(costs[order], alone.cummax(0).values, rtol=1e-5) and total > 0


def test_a_unit_that_others_repeat_goes_for_nothing():
    second = torch.eye(4, dtype=torch.float64)
    second[0, 3] = second[3, 0] = 1 - 1e-9
    order, costs = greedy_removal(
        [Reading(torch.ones(2, 4, dtype=torch.float64), second, torch.arange(4)[:, None])], 1
    )
    assert int(order[0]) in (0, 3) and float(costs[order[0]]) < 0.1 * float(costs[1])
