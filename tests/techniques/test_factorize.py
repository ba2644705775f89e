"""What factorizing techniques do beyond the contract: least damage, ranks, and what follows."""

import pytest
import torch

from lilliput.errors import PlanError
from lilliput.model.encodings import Codebook, Dense, Grid, LowRank, Masked
from lilliput.records import Plan
from lilliput.stages.apply import apply
from lilliput.techniques import (
    FactorizeCp,
    FactorizeSpatial,
    FactorizeSvd,
    FactorizeTucker,
    FactorizeWhitened,
    PruneDamage,
    QuantizeFeedback,
    QuantizeFloat16,
    QuantizeRound,
    ShareValues,
)

MATRICES = ("linear", "turned", "conv", "table")
CHAINS = (FactorizeTucker, FactorizeCp, FactorizeSpatial)


def cost(profile, name, encoding):
    known = profile.sites[name]
    return known.damage(profile.matrix(name), known.site.matrix(encoding.decode()))


def one(technique, profile, name, **more):
    return technique.apply(profile, (name,), **more)[name]


def applied(profile, name, *techniques):
    steps = tuple(technique.step_of((name,)) for technique in techniques)
    return apply(Plan(model_hash=profile.model_hash, steps=steps), profile)[name]


@pytest.mark.parametrize("amount", [0.3, 0.6])
def test_knowing_what_errors_cost_costs_less(profile, amount):
    for name in MATRICES:
        plain = cost(profile, name, one(FactorizeSvd(amount=amount), profile, name))
        least = cost(profile, name, one(FactorizeWhitened(amount=amount), profile, name))
        assert least < 0.8 * plain, name


def test_no_product_of_that_rank_costs_less(profile):
    """Small steps from the whitened product only cost more, first factor or last."""
    made = torch.Generator().manual_seed(0)
    for name in MATRICES:
        best = one(FactorizeWhitened(rank=7), profile, name)
        least = cost(profile, name, best)
        for place in (0, 1):
            for _ in range(5):
                factors = [factor.weight.clone() for factor in best.factors]
                noise = torch.randn(factors[place].shape, generator=made)
                factors[place] += 0.03 * factors[place].std() * noise
                other = LowRank(tuple(map(Dense, factors)), best.shape, best.transposed)
                assert cost(profile, name, other) > least * 0.999, name


@pytest.mark.parametrize("kind", [FactorizeSvd, FactorizeWhitened])
def test_the_full_rank_loses_nothing(profile, kind):
    for name in MATRICES:
        site = profile.sites[name].site
        found = one(kind(rank=min(site.rows, site.columns)), profile, name).decode()
        torch.testing.assert_close(found, profile.parameters[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", [FactorizeTucker, FactorizeSpatial])
def test_the_full_rank_of_a_chain_loses_nothing(profile, kind):
    rank = 32 if kind is FactorizeTucker else 48
    found = one(kind(rank=rank), profile, "conv").decode()
    torch.testing.assert_close(found, profile.parameters["conv"], atol=1e-3, rtol=1e-2)


def test_a_kernel_that_is_a_product_is_found_again(profile):
    made = torch.Generator().manual_seed(0)
    parts = [torch.randn(s, generator=made) for s in ((32, 3), (16, 3), (3, 3), (3, 3))]
    weight = torch.einsum("or,ir,hr,wr->oihw", *parts)
    exact = type(profile)("0", profile.sites, {**profile.parameters, "conv": weight})
    for technique in (FactorizeCp(rank=6), FactorizeTucker(rank=3), FactorizeSpatial(rank=3)):
        found = one(technique, exact, "conv").decode()
        assert float((found - weight).norm() / weight.norm()) < 0.03, technique


def test_chains_cost_less_than_without_the_metric(profile):
    """The same technique on the same weight, its metric hidden, costs more."""
    known = profile.sites["conv"]
    blind = type(known)(known.site, None, torch.ones(32))
    hidden = type(profile)("0", {"conv": blind}, profile.parameters)
    for kind in CHAINS:
        aware = cost(profile, "conv", one(kind(amount=0.5), profile, "conv"))
        plain = cost(profile, "conv", one(kind(amount=0.5), hidden, "conv"))
        assert aware < 0.8 * plain, kind


def test_ranks_by_damage_cost_less_at_equal_numbers(profile):
    sites = ("linear", "turned", "conv", "table")
    sizes = [profile.sites[name].site.size for name in sites]
    alike = FactorizeWhitened(amount=0.5).apply(profile, sites)
    shared = FactorizeWhitened(amount=0.5, together=True).apply(profile, sites)

    def numbers(found):
        return sum(
            sum(f.decode().numel() for f in found[name].factors) if name in found else size
            for name, size in zip(sites, sizes, strict=True)
        )

    def total(found):
        return sum(
            cost(profile, n, found[n]) * profile.sites[n].sensitivity for n in sites if n in found
        )

    assert 0.48 * sum(sizes) <= numbers(shared) <= 0.5 * sum(sizes)
    assert total(shared) < total(alike)


def test_little_to_remove_leaves_sites_whole(profile):
    found = FactorizeWhitened(amount=0.02, together=True).apply(profile, MATRICES)
    assert 0 < len(found) < len(MATRICES)
    with pytest.raises(PlanError, match="rank = 3 does not go with together = true"):
        FactorizeWhitened(rank=3, together=True).apply(profile, MATRICES)


@pytest.mark.parametrize(
    ("technique", "name", "message", "hint"),
    [
        (FactorizeSvd(rank=97), "linear", r"rank = 97 .* linear, 96 x 128", "1 to 96, the nearest"),
        (FactorizeWhitened(rank=73), "turned", r"rank = 73 .* turned, 80 x 72", "nearest is 72"),
        (FactorizeSpatial(rank=49), "conv", r"rank = 49 .* conv, 32 x 16 x 3 x 3", "1 to 48"),
        (FactorizeTucker(rank=33), "conv", r"rank = 33 is above", "1 to 32, the nearest is 32"),
        (FactorizeCp(rank=86), "conv", r"rank = 86 is above", "1 to 85, the nearest is 85"),
        (FactorizeTucker(), "linear", "cannot take linear, .* of kind linear", "whitened takes"),
        (FactorizeSpatial(), "depthwise", "cannot take depthwise, .* has 40 groups", "whitened"),
        (FactorizeSvd(), "grouped", "cannot take grouped, 24 x 8 x 3: it has 3 groups", "without"),
    ],
)
def test_what_does_not_fit_is_named_with_what_does(profile, technique, name, message, hint):
    with pytest.raises(PlanError, match=message) as told:
        technique.apply(profile, (name,))
    assert hint in told.value.hint


@pytest.mark.parametrize("kind", CHAINS)
def test_a_kernel_of_one_point_is_refused(profile, kind):
    known = profile.sites["conv"]
    site = type(known.site)("conv", "conv", (32, 144, 1, 1), 32, 144)
    point = type(known)(site, known.second, known.weights)
    flat = type(profile)("0", {"conv": point}, {"conv": torch.randn(32, 144, 1, 1)})
    with pytest.raises(PlanError, match=r"conv, 32 x 144 x 1 x 1: it has a kernel longer than one"):
        kind().apply(flat, ("conv",))
    assert kind().options(flat, "conv") == ()


@pytest.mark.parametrize("kind", [FactorizeWhitened, *CHAINS])
def test_quantized_factors_make_up_for_each_other(profile, kind):
    """Rounding each factor under what it sees beats rounding each to nearest on its own."""
    first = kind(amount=0.4)
    product = one(first, profile, "conv")
    for bits, step in ((4, 0.4),):
        found = applied(profile, "conv", first, QuantizeFeedback(step=step))
        assert all(isinstance(factor, Grid) for factor in found.factors)
        blind = []
        for factor, grid in zip(product.factors, found.factors, strict=True):
            matrix = factor.weight.reshape(len(factor.weight), -1)
            steps = grid.row_steps[:, None] * (
                1 if grid.column_steps is None else grid.column_steps
            )
            blind.append(Dense((torch.round(matrix / steps) * steps).reshape(factor.weight.shape)))
        alone = cost(profile, "conv", LowRank(tuple(blind), product.shape))
        assert cost(profile, "conv", found) < alone, (kind, bits)


def test_what_quantizing_adds_is_little_beside_the_product_at_fine_steps(profile):
    for name in MATRICES:
        first = FactorizeWhitened(amount=0.5)
        whole = cost(profile, name, one(first, profile, name))
        for then in (QuantizeFeedback(step=0.05), QuantizeRound(bits=8), QuantizeFloat16()):
            assert cost(profile, name, applied(profile, name, first, then)) < 1.03 * whole, name


def test_factors_take_shared_values(profile):
    found = applied(profile, "linear", FactorizeWhitened(), ShareValues(values=16))
    assert all(isinstance(factor, Codebook) for factor in found.factors)
    whole = cost(profile, "linear", one(FactorizeWhitened(), profile, "linear"))
    assert cost(profile, "linear", found) < 1.3 * whole


def test_prune_then_factorize_then_quantize(profile):
    """The share that pruning removed is zero in the integers of the factors."""
    steps = (PruneDamage(amount=0.5), FactorizeWhitened(amount=0.2), QuantizeFeedback(step=0.2))
    for name in MATRICES:
        pruned = applied(profile, name, *steps[:2])
        assert all(isinstance(factor, Masked) for factor in pruned.factors)
        found = applied(profile, name, *steps)
        for grid, factor in zip(found.factors, pruned.factors, strict=True):
            assert isinstance(grid, Grid) and not grid.decode()[~factor.mask].any()
        assert cost(profile, name, found) < 1.1 * cost(profile, name, pruned)


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (QuantizeRound(), FactorizeSvd(), "factorize_svd cannot take linear: .* made it grid"),
        (FactorizeSvd(), FactorizeSvd(), "factorize_svd cannot take linear: .* made it lowrank"),
        (FactorizeSvd(), PruneDamage(), "prune_damage cannot take linear: .* made it lowrank"),
    ],
)
def test_steps_in_another_order_are_refused(profile, first, then, message):
    with pytest.raises(PlanError, match=message) as told:
        applied(profile, "linear", first, then)
    assert "prune, factorize, then share or quantize" in told.value.hint


def test_factors_are_quantized_once(profile):
    with pytest.raises(PlanError, match=r"quantize_round cannot take linear: .* made it grid"):
        applied(profile, "linear", FactorizeSvd(), QuantizeRound(), QuantizeRound())
