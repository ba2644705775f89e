import pytest
import torch

from lilliput.errors import PlanError
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.model.sites import Site
from lilliput.records import Plan, Step
from lilliput.stages.apply import apply


@pytest.fixture
def profile():
    values = {"a": torch.randn(8, 16), "b": torch.randn(8, 16), "bias": torch.randn(8)}
    sites = {
        name: SiteProfile(Site(name, "linear", (8, 16), 8, 16), None, torch.ones(8))
        for name in ("a", "b")
    }
    return Profile("mine", sites, values)


def plan_of(*steps, model_hash="mine"):
    made = tuple(Step(technique=t, where=where, settings=s) for t, where, s in steps)
    return Plan(model_hash=model_hash, steps=made)


def test_steps_say_what_becomes_of_what_they_name(profile):
    before = {name: value.clone() for name, value in profile.parameters.items()}
    found = apply(
        plan_of(("quantize_round", ("a",), {"bits": 4}), ("quantize_float16", ("bias",), {})),
        profile,
    )
    assert found.keys() == {"a", "bias"}
    assert int(found["a"].codes.abs().max()) == 7
    assert all(torch.equal(before[n], value) for n, value in profile.parameters.items())


def test_a_step_that_cannot_build_on_the_one_before_is_refused(profile):
    twice = [("quantize_round", ("a",), {"bits": 2}), ("quantize_round", ("a",), {})]
    with pytest.raises(PlanError, match=r"quantize_round cannot take a: .* made it grid") as told:
        apply(plan_of(*twice), profile)
    assert "prune, factorize, then share or quantize" in told.value.hint


def test_a_step_builds_on_the_one_before(profile):
    steps = [("prune_magnitude", ("a",), {"amount": 0.5}), ("quantize_round", ("a",), {})]
    codes = apply(plan_of(*steps), profile)["a"].codes
    whole = apply(plan_of(steps[1]), profile)["a"].codes
    gone = codes == 0
    assert int(gone.sum()) >= codes.numel() // 2
    assert torch.equal(codes[~gone], whole[~gone])


def test_a_plan_for_another_architecture_is_refused(profile):
    with pytest.raises(PlanError, match="made for another architecture"):
        apply(plan_of(("quantize_round", ("a",), {}), model_hash="another"), profile)


@pytest.mark.parametrize(
    ("technique", "where", "said"),
    [
        ("quantize_round", ("a", "c"), "quantize_round: the model has no site 'c'"),
        ("quantize_round", ("bias",), "quantize_round: the model has no site 'bias'"),
        ("quantize_float16", ("bais",), "quantize_float16: the model has no site 'bais'"),
        ("prune_magic", ("a",), "unknown technique 'prune_magic'"),
    ],
)
def test_a_plan_that_does_not_fit_names_what_does_not(profile, technique, where, said):
    with pytest.raises(PlanError, match=said):
        apply(plan_of((technique, where, {})), profile)


def test_a_misspelt_site_or_technique_names_the_nearest_one(profile):
    wrong = (
        (Step(technique="quantize_round", where=("aa",)), "did you mean a"),
        (Step(technique="quantise_round", where=("a",)), "did you mean quantize_round"),
        (Step(technique="quantize_round", where=("a",), settings={"bit": 4}), "did you mean bits"),
    )
    for step, hint in wrong:
        with pytest.raises(PlanError) as told:
            apply(Plan(model_hash=profile.model_hash, steps=(step,)), profile)
        assert hint in told.value.hint
