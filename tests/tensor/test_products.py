"""Products against what they mean: maps, convolutions and least squares done the slow way."""

import pytest
import torch
import torch.nn.functional as F

from lilliput.tensor.products import (
    Metric,
    alternated,
    chained,
    fitted_factor,
    last_factor,
    marginal,
    output_side,
    prefix,
)

CHAINS = {
    "linear": [(3, 6), (5, 3)],
    "tucker": [(2, 4, 1, 1), (3, 2, 3, 3), (5, 3, 1, 1)],
    "canonical": [(3, 4, 1, 1), (3, 1, 3, 1), (3, 1, 1, 3), (5, 3, 1, 1)],
    "one": [(1, 4, 1, 1), (1, 1, 3, 1), (1, 1, 1, 3), (5, 1, 1, 1)],
    "spatial": [(3, 4, 3, 1), (5, 3, 1, 3)],
    "line": [(3, 4, 1), (3, 1, 3), (5, 3, 1)],
}


def made(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def side(width, seed=1):
    mix = made([(2 * width, width)], seed)[0]
    return mix.t() @ mix / width


@pytest.mark.parametrize("kind", CHAINS)
def test_a_chain_answers_as_its_factors_do_in_turn(kind):
    factors = made(CHAINS[kind])
    axes = factors[0].dim() - 2
    source = made([(2, factors[0].shape[1], *[7] * axes)], 3)[0]
    answer, whole = source, chained(factors)
    if axes == 0:
        for factor in factors:
            answer = answer @ factor.t()
        torch.testing.assert_close(source @ whole.t(), answer)
        return
    convolve = F.conv1d if axes == 1 else F.conv2d
    for factor in factors:
        answer = convolve(answer, factor, groups=answer.shape[1] // factor.shape[1])
    torch.testing.assert_close(convolve(source, whole), answer, atol=1e-4, rtol=1e-4)


def test_the_last_factor_is_least_squares_on_inputs():
    inputs = made([(400, 6)], 4)[0] @ made([(6, 6)], 5)[0]
    weight, before = made([(5, 6), (3, 6)], 6)
    found = last_factor(before, weight, second=inputs.t() @ inputs)
    wanted = torch.linalg.lstsq(inputs @ before.t(), inputs @ weight.t()).solution.t()
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", CHAINS)
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_fitted_factor_has_no_slope_left(kind, diagonal):
    factors = made(CHAINS[kind])
    target = made([tuple(chained(factors).shape)], 8)[0].reshape(5, -1)
    output = side(5, 2).diagonal().clone() if diagonal else side(5, 2)
    metric = Metric(side(target.shape[1]), output)
    for place in range(len(factors)):
        found = fitted_factor(factors, place, weight=target, metric=metric).requires_grad_()
        product = chained([*factors[:place], found, *factors[place + 1 :]]).reshape(5, -1)
        lost = target - product
        (metric.times(lost) * lost).sum().backward()
        factors[place].requires_grad_()
        start = target - chained(factors).reshape(5, -1)
        (metric.times(start) * start).sum().backward()
        assert float(found.grad.norm()) < 0.05 * float(factors[place].grad.norm())
        factors[place] = factors[place].detach()


@pytest.mark.parametrize("kind", CHAINS)
def test_taking_turns_never_costs_more(kind):
    factors = made(CHAINS[kind])
    target = made([tuple(chained(factors).shape)], 8)[0].reshape(5, -1)
    metric = Metric(side(target.shape[1]), side(5, 2))

    def cost(some):
        return metric.cost(target - chained(some).reshape(5, -1))

    before = cost(factors)
    once = alternated(factors, weight=target, metric=metric, sweeps=1)
    more = alternated(factors, weight=target, metric=metric, sweeps=6)
    assert cost(more) <= cost(once) < before
    assert alternated(factors, weight=target, metric=metric, sweeps=0) == factors


def test_what_a_factor_reads_and_writes_is_the_metric_of_its_error():
    """The first factor of a linear product and the last of any: damage is exact."""
    _, last = made(CHAINS["linear"])
    metric = Metric(side(6), side(5, 2))
    lost = made([(3, 6)], 9)[0]
    seen = output_side([last], 3, output=metric.output)
    torch.testing.assert_close(Metric(metric.second, seen).cost(lost), metric.cost(last @ lost))
    factors = made(CHAINS["spatial"])
    wide = Metric(side(4 * 9), side(5, 2))
    before = prefix(factors[:-1], factors[-1].shape)  # (channels * wide, in * taps)
    error = made([tuple(factors[-1].shape)], 10)[0]
    changed = chained([*factors[:-1], error]).reshape(5, -1)
    last_metric = Metric(before @ wide.second @ before.t(), wide.output)
    torch.testing.assert_close(last_metric.cost(error.reshape(5, -1)), wide.cost(changed))
    assert output_side([], 5, output=wide.output) is wide.output


def test_a_marginal_is_the_mean_over_places():
    second = side(2 * 6)
    wide = second.reshape(2, 2, 3, 2, 2, 3)
    found = marginal(second, (2, 3), walked=(2, 1))
    wanted = sum(wide[:, :, place, :, :, place] for place in range(3)) / 3
    torch.testing.assert_close(found, wanted.reshape(4, 4))
    torch.testing.assert_close(marginal(second, (2, 3), walked=(2, 3)), second)
    torch.testing.assert_close(marginal(second, (), walked=()), second)
