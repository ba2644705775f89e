"""The option table: whose techniques are in it, asked once, and what lies between two options."""

from itertools import pairwise

import pytest
from three_sites import made_profile

from lilliput.errors import PlanError
from lilliput.model.encodings import Grid, LowRank
from lilliput.stages import option_table
from lilliput.stages.apply import apply
from lilliput.stages.mixing import Mixture, Targets
from lilliput.stages.option_table import OptionTable, limits_of, techniques_for
from lilliput.techniques import TABLE, Option, QuantizeFeedback, QuantizeRound


@pytest.fixture(scope="module")
def profile():
    return made_profile()


def test_the_table_of_techniques_decides_who_is_a_candidate(profile, monkeypatch):
    names = {technique.name for technique in techniques_for(["storage"])}
    assert names == {kind.name for kind in TABLE if "storage" in limits_of(kind)}
    assert "factorize_svd" not in names  # the whitened one damages less at every rank
    assert {"quantize_feedback", "quantize_round"} <= names
    found = OptionTable(profile).candidates(["storage"])
    offered = {c.name for c in found["first"] if len(c.chain) == 1}
    assert offered <= names and {"quantize_round", "quantize_float16"} <= offered
    monkeypatch.setattr(QuantizeRound, "serves", frozenset(("latency",)))
    assert "quantize_round" not in {t.name for t in techniques_for(["storage"])}
    assert "quantize_round" in {t.name for t in techniques_for(["storage", "latency"])}


def test_every_option_is_asked_for_once(profile, monkeypatch):
    asked = []
    options = QuantizeRound.options

    def counted(self, profile, where):
        asked.append(where)
        return options(self, profile, where)

    monkeypatch.setattr(QuantizeRound, "options", counted)
    table = OptionTable(profile)
    for limits in (["storage"], ["storage", "latency"]):
        table.candidates(limits)
    assert sorted(asked) == sorted(profile.sites)


def test_strengths_between_two_options_lie_between_them(profile):
    found = OptionTable(profile).candidates(["storage"])["second"]
    steps = [c for c in found if c.name == "quantize_feedback"]
    options = QuantizeFeedback().options(profile, "second")
    assert len(steps) == option_table.BETWEEN * (len(options) - 1) + 1
    assert [c.option for c in steps[:: option_table.BETWEEN]] == list(options)
    for mild, coarse in pairwise(steps):
        assert mild.chain[0].step < coarse.chain[0].step
        assert mild.option.damage <= coarse.option.damage
        assert mild.option.storage >= coarse.option.storage
        assert mild.option.installed >= coarse.option.installed


def test_whole_numbers_have_nothing_between(profile):
    found = OptionTable(profile).candidates(["storage"])["second"]
    bits = [c.chain[0].bits for c in found if c.name == "quantize_round"]
    assert bits == list(range(8, 1, -1))


def test_a_technique_that_cannot_take_a_site_is_left_out(profile, monkeypatch):
    def refuse(self, profile, where):
        if where == "second":
            raise PlanError("two does not divide it")
        return (Option({}, 1.0, 2.0, 3),)

    monkeypatch.setattr(QuantizeRound, "options", refuse)
    found = OptionTable(profile).candidates(["storage"])
    assert "quantize_round" in {c.name for c in found["first"]}
    assert "quantize_round" not in {c.name for c in found["second"]}


def test_a_site_that_nothing_can_take_is_named(profile, monkeypatch):
    monkeypatch.setattr(option_table, "TABLE", ())
    with pytest.raises(PlanError, match="no technique can take first"):
        OptionTable(profile).candidates(["storage"])


def test_the_factors_of_a_product_are_quantized_in_their_turn(profile):
    table = OptionTable(profile)
    found = table.candidates(["latency"])["first"]
    chains = [c for c in found if c.name == "factorize_whitened+quantize_round"]
    alone = [c for c in found if c.name == "factorize_whitened" and c.strength == int(c.strength)]
    assert chains and len(chains) == len(alone)
    for chain, one in zip(chains, alone, strict=True):
        assert chain.option.installed < 0.35 * one.option.installed
        assert chain.option.damage >= 0.99 * one.option.damage
        assert chain.option.work == one.option.work < 1
        steps = [step.technique for step in chain.steps("first")]
        assert steps == ["factorize_whitened", "quantize_round"]


def test_a_plan_of_chains_keeps_the_order_of_steps(profile):
    table = OptionTable(profile)
    targets = Targets(None, None, None, latency=1.0)
    mixture = Mixture.of(table, targets)
    wanted = ("quantize_round", "factorize_whitened+quantize_round", "quantize_round")
    picks = [
        [c.name for c in some].index(name)
        for name, some in zip(wanted, mixture.candidates.values(), strict=True)
    ]
    plan = mixture.plan(picks)
    made = apply(plan, profile)
    assert isinstance(made["second"], LowRank)
    assert all(isinstance(factor, Grid) for factor in made["second"].factors)
    assert isinstance(made["first"], Grid) and isinstance(made["third"], Grid)
    damage = sum(
        profile.sites[n].damage(profile.matrix(n), profile.sites[n].site.matrix(made[n].decode()))
        * profile.sites[n].sensitivity
        for n in profile.sites
    )
    assert plan.predicted_damage == pytest.approx(damage, rel=1e-3)
