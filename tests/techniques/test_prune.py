"""What pruning techniques do beyond the contract: patterns, ranking together, and what follows."""

import pytest
import torch

from lilliput.errors import PlanError
from lilliput.model.encodings import Grid, Masked
from lilliput.records import Plan, Step
from lilliput.stages.apply import apply
from lilliput.techniques import (
    PruneDamage,
    PruneMagnitude,
    PruneSensitivity,
    PruneSparsegpt,
    PruneSurgeon,
    PruneWanda,
    QuantizeFeedback,
)

FREE = (PruneDamage, PruneMagnitude, PruneSparsegpt, PruneWanda)
GROUPED = (*FREE, PruneSensitivity, PruneSurgeon)  # take N:M patterns
SITES = ("linear", "turned", "conv")


def cost(profile, name, value):
    known = profile.sites[name]
    return known.damage(profile.matrix(name), known.site.matrix(value))


def plan_of(profile, *steps):
    return Plan(model_hash=profile.model_hash, steps=steps)


@pytest.mark.parametrize("kind", GROUPED)
@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
def test_n_of_m_neighbours_in_a_row_stay(profile, kind, pattern):
    kept, group = map(int, pattern.split(":"))
    for name in ("linear", "turned", "conv"):
        found = kind(pattern=pattern).apply(profile, (name,))[name]
        mask = profile.sites[name].site.matrix(found.mask)
        assert (mask.reshape(len(mask), -1, group).sum(2) == kept).all()


@pytest.mark.parametrize("pattern", ["1x4", "4x1"])
def test_blocks_stay_or_go_as_a_whole_when_shared_out(profile, pattern):
    high, wide = map(int, pattern.split("x"))
    found = PruneSensitivity(amount=0.5, pattern=pattern).apply(profile, SITES)
    for name in SITES:
        mask = profile.sites[name].site.matrix(found[name].mask)
        rows, columns = mask.shape
        blocks = mask.reshape(rows // high, high, columns // wide, wide).float().mean((1, 3))
        assert ((blocks == 0) | (blocks == 1)).all()


def test_the_surgeon_loses_less_on_a_pattern_than_a_mask_by_magnitude(profile):
    for name in SITES:
        lost = [
            cost(profile, name, kind(pattern="2:4").apply(profile, (name,))[name].weight)
            for kind in (PruneMagnitude, PruneSurgeon)
        ]
        assert lost[1] < 0.7 * lost[0]


def test_exchanges_pay(profile):
    for name in SITES:
        few, many = (
            PruneSensitivity(amount=0.6, swaps=swaps).apply(profile, (name,))[name]
            for swaps in (0, 8)
        )
        assert int(few.mask.sum()) == int(many.mask.sum())
        assert cost(profile, name, many.weight) < 0.97 * cost(profile, name, few.weight)


@pytest.mark.parametrize("kind", GROUPED)
def test_a_pattern_that_does_not_divide_a_site_is_refused(profile, kind):
    with pytest.raises(PlanError, match="pattern 2:4 does not divide depthwise, 40 x 9"):
        kind(pattern="2:4").apply(profile, ("depthwise",))


@pytest.mark.parametrize("kind", [PruneDamage, PruneMagnitude])
def test_ranked_together_sites_lose_different_amounts_and_the_sum_is_right(profile, kind):
    found = kind(amount=0.5, together=True).apply(profile, SITES)
    gone = [float((~found[name].mask).float().mean()) for name in SITES]
    assert max(gone) - min(gone) > 0.02 or kind is PruneMagnitude
    total = sum(int((~found[name].mask).sum()) for name in SITES)
    assert total == round(0.5 * sum(profile.sites[name].site.size for name in SITES))
    with pytest.raises(PlanError, match="together"):
        kind(together=True, pattern="2:4").apply(profile, SITES)


def test_sensitive_sites_keep_more(profile):
    found = PruneSensitivity(amount=0.6).apply(profile, SITES)
    gone = sum(int((~found[name].mask).sum()) for name in SITES)
    size = sum(profile.sites[name].site.size for name in SITES)
    assert gone == pytest.approx(0.6 * size, rel=0.02)
    alike = PruneSparsegpt(amount=0.6, refit=True).apply(profile, SITES)

    def total(some):
        return sum(
            cost(profile, name, some[name].weight) * profile.sites[name].sensitivity
            for name in SITES
        )

    assert total(found) < total(alike)


@pytest.mark.parametrize("kind", [*FREE, PruneSurgeon])
def test_a_refit_costs_less(profile, kind):
    for name in SITES:
        found, best = (
            kind(amount=0.6, refit=refit).apply(profile, (name,))[name] for refit in (False, True)
        )
        assert torch.equal(found.mask, best.mask)
        assert cost(profile, name, best.weight) <= 1.01 * cost(profile, name, found.weight)


def test_quantization_after_pruning_makes_up_for_both(profile):
    """One rounding that knows the mask beats rounding what pruning left."""
    steps = (PruneDamage(amount=0.5).step_of(SITES), QuantizeFeedback(step=0.4).step_of(SITES))
    found = apply(plan_of(profile, *steps), profile)
    pruned = PruneDamage(amount=0.5).apply(profile, SITES)
    for name in SITES:
        grid, mask = found[name], pruned[name].mask
        assert isinstance(grid, Grid) and not grid.decode()[~mask].any()
        assert cost(profile, name, grid.decode()) < cost(profile, name, pruned[name].weight)


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (QuantizeFeedback(), PruneWanda(), "prune_wanda cannot take linear: .* made it grid"),
        (PruneWanda(), PruneDamage(), "prune_damage cannot take linear: .* made it masked"),
        (QuantizeFeedback(), QuantizeFeedback(), "quantize_feedback cannot take linear"),
    ],
)
def test_steps_in_another_order_are_refused(profile, first, then, message):
    with pytest.raises(PlanError, match=message) as told:
        apply(plan_of(profile, first.step_of(("linear",)), then.step_of(("linear",))), profile)
    assert "prune, factorize, then share or quantize" in told.value.hint


def test_a_pattern_of_another_form_names_the_allowed_ones(profile):
    step = Step(technique="prune_wanda", where=("linear",), settings={"pattern": "3:4"})
    with pytest.raises(PlanError, match="pattern = '3:4': Input should be 'any', '2:4'"):
        apply(plan_of(profile, step), profile)


def test_dead_inputs_and_constant_weights_survive(profile):
    for kind in (*FREE, PruneSurgeon):
        found = kind(amount=0.9, refit=True).apply(profile, ("unseen",))["unseen"]
        assert isinstance(found, Masked) and torch.isfinite(found.weight).all()
