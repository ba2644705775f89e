"""The planner alone, against an evaluator whose bytes and drops are known."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from three_sites import made_profile

from lilliput.errors import UnreachableError
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.stages.apply import apply
from lilliput.stages.encoded_bytes import encoded_bytes
from lilliput.stages.mixing import Targets, Trial
from lilliput.stages.plan import plan

WEIGHTS = 3 * 96 * 128
OVERHEAD = 900


@pytest.fixture(scope="module")
def profile():
    return made_profile()


@dataclass
class Known:
    """What everything costs: the predicted bytes, times a factor, and an overhead.

    `harm` is the predicted damage at which the drop reaches 1.
    """

    factor: float = 1.0
    harm: float = 1.0
    installed: float = 1.0
    tried: list[Plan] = field(default_factory=list)

    def sizes(self, plan):
        self.tried.append(plan)
        predicted = plan.predicted_storage_bytes or WEIGHTS
        fine = any(step.settings.get("step", 1) < 0.05 for step in plan.steps)
        return Trial(
            round(predicted * self.factor) + OVERHEAD,
            round(WEIGHTS * self.installed * (2 if fine else 1)),
        )

    def costs(self, plan):
        return self.sizes(plan)

    def expected_drop(self, plan):
        self.tried.append(plan)
        return plan.predicted_damage / self.harm


def targets(storage=None, installed=None, drop=None):
    return Targets(storage=storage, installed=installed, drop=drop)


def steps_of(chosen):
    return {
        step.where[0]: step.settings["step"] for step in chosen.steps if "step" in step.settings
    }


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.03, 1.15])
@pytest.mark.parametrize("bits", [1.5, 3, 5])
def test_a_storage_limit_is_kept_and_used_up(profile, factor, bits):
    limit = WEIGHTS * bits / 8 + OVERHEAD
    known = Known(factor)
    chosen = plan(profile, targets(storage=limit), evaluate=known)
    assert 0.97 * limit <= chosen.predicted_storage_bytes <= limit
    assert len(known.tried) <= 8


def test_more_storage_means_less_damage_and_finer_steps(profile):
    found = [
        plan(profile, targets(storage=WEIGHTS * bits / 8), evaluate=Known())
        for bits in (1.2, 2, 4, 6)
    ]
    damage = [chosen.predicted_damage for chosen in found]
    assert damage == sorted(damage, reverse=True)
    for coarse, fine in pairwise(found):
        assert all(steps_of(fine)[name] <= step for name, step in steps_of(coarse).items())


def test_what_matters_more_gets_a_finer_step(profile):
    steps = steps_of(plan(profile, targets(storage=WEIGHTS * 3 / 8), evaluate=Known()))
    assert steps["first"] < steps["second"] < steps["third"]


def test_every_parameter_is_named_once_and_steps_can_be_read(profile):
    chosen = plan(profile, targets(storage=WEIGHTS * 3 / 8), evaluate=Known(), seed=7)
    assert sorted(n for step in chosen.steps for n in step.where) == sorted(profile.parameters)
    assert (chosen.seed, chosen.model_hash) == (7, profile.model_hash)
    assert all(float(f"{step:.3g}") == step for step in steps_of(chosen).values())
    assert apply(chosen, profile).keys() == profile.parameters.keys()


def test_the_same_plan_twice(profile):
    one, two = (
        plan(found, targets(storage=WEIGHTS * 2 / 8), evaluate=Known())
        for found in (profile, made_profile())
    )
    assert one == two


def test_an_unreachable_limit_names_the_smallest_size(profile):
    known = Known()
    with pytest.raises(
        UnreachableError, match="a packed file of 2,000 bytes is out of reach"
    ) as told:
        plan(profile, targets(storage=2000.0), evaluate=known)
    smallest = int(told.value.message.rpartition(" ")[2].replace(",", ""))
    assert 2000 < smallest == min(known.sizes(tried).storage for tried in [*known.tried])
    assert plan(profile, targets(storage=float(smallest)), evaluate=known)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 4.0])
def test_what_is_reachable_is_reached(profile, factor):
    """A coder far from the prediction, and a limit just above the smallest file."""
    known = Known(factor)
    with pytest.raises(UnreachableError) as told:
        plan(profile, targets(storage=100.0), evaluate=known)
    smallest = int(told.value.message.rpartition(" ")[2].replace(",", ""))
    for limit in (smallest, smallest * 1.01, smallest * 1.3, smallest * 3):
        chosen = plan(profile, targets(storage=float(limit)), evaluate=known)
        assert chosen.predicted_storage_bytes <= limit


@dataclass
class Scripted(Known):
    """Every new plan gets the next size, whatever was predicted."""

    script: tuple[float, ...] = ()
    told: dict[str, int] = field(default_factory=dict)

    def sizes(self, plan):
        key = str(plan.steps)
        if key not in self.told:
            self.told[key] = round(self.script[min(len(self.told), len(self.script) - 1)])
        return Trial(self.told[key], WEIGHTS)


def test_the_fullest_of_the_files_that_fit_is_taken(profile):
    known = Scripted(script=(10_000, 9_000, 9_500, 12_000))
    chosen = plan(profile, targets(storage=11_000.0), evaluate=known)
    assert chosen.predicted_storage_bytes == known.sizes(chosen).storage == 10_000


def test_a_reachable_limit_is_reached_even_if_every_guess_misses(profile):
    known = Scripted(script=(20_500, 20_400, 20_300, 20_200, 9_000))
    chosen = plan(profile, targets(storage=20_000.0), evaluate=known)
    assert chosen.predicted_storage_bytes == 9_000


def test_a_drop_alone_gets_the_smallest_file_expected_to_be_proved(profile):
    known = Known(harm=10.0)
    chosen = plan(profile, targets(drop=0.01), evaluate=known)
    assert known.expected_drop(chosen) <= 0.01
    rejected = [t for t in [*known.tried] if known.expected_drop(t) > 0.01]
    assert rejected
    smaller = max(t.predicted_storage_bytes for t in rejected)
    assert smaller < chosen.predicted_storage_bytes < 1.2 * smaller + OVERHEAD
    stricter = plan(profile, targets(drop=0.001), evaluate=known)
    assert stricter.predicted_storage_bytes > chosen.predicted_storage_bytes


def test_a_drop_that_nothing_keeps_gets_the_mildest_file(profile):
    known = Known(harm=1e-30)
    chosen = plan(profile, targets(drop=0.01), evaluate=known)
    assert chosen.predicted_damage == min(t.predicted_damage for t in [*known.tried])


@dataclass
class Coded:
    """What the encodings of a plan take: entropy-coded, and as they are."""

    profile: Profile
    harm: float = 1.0
    tried: list[Plan] = field(default_factory=list)

    def sizes(self, plan):
        self.tried.append(plan)
        sizes = [encoded_bytes(encoding) for encoding in apply(plan, self.profile).values()]
        storage, installed = (sum(part) + OVERHEAD for part in zip(*sizes, strict=True))
        return Trial(round(storage), installed)

    def costs(self, plan):
        return self.sizes(plan)

    def expected_drop(self, plan):
        return plan.predicted_damage / self.harm


def test_an_installed_limit_is_kept_beside_one_on_storage(profile):
    known = Coded(profile)
    fine = targets(storage=WEIGHTS * 7 / 8.0 + OVERHEAD, installed=None)
    assert min(steps_of(plan(profile, fine, evaluate=known)).values()) < 0.05
    limited = targets(storage=fine.storage, installed=WEIGHTS * 1.1 + OVERHEAD)
    chosen = plan(profile, limited, evaluate=known)
    assert known.sizes(chosen).installed <= limited.installed
    assert known.sizes(chosen).storage <= limited.storage


def test_under_both_limits_one_site_may_keep_wider_codes(profile):
    """Room for more bytes per weight goes to the site that matters most."""
    known = Coded(profile)
    limited = targets(storage=WEIGHTS * 8 / 8.0, installed=WEIGHTS * 1.4 + OVERHEAD)
    chosen = plan(profile, limited, evaluate=known)
    sizes = {n: encoded_bytes(e)[1] for n, e in apply(chosen, profile).items() if n != "bias"}
    assert sizes["first"] == max(sizes.values())
    assert known.sizes(chosen).installed <= limited.installed


def test_more_of_either_limit_never_predicts_more_damage(profile):
    def damage(storage, installed):
        asked = targets(storage=WEIGHTS * storage, installed=WEIGHTS * installed)
        return plan(profile, asked, evaluate=Coded(profile)).predicted_damage

    tight = damage(0.7, 1.1)
    assert damage(0.9, 1.1) < tight and damage(0.9, 2.2) <= damage(0.9, 1.1)


def test_a_storage_limit_out_of_reach_is_named_beside_an_installed_one(profile):
    with pytest.raises(UnreachableError, match=r"packed file of 3,000 bytes is out of reach"):
        plan(profile, targets(storage=3000.0, installed=WEIGHTS * 1.1), evaluate=Coded(profile))


def test_an_unreachable_installed_limit_names_the_smallest_size(profile):
    known = Coded(profile)
    with pytest.raises(
        UnreachableError, match=r"runnable file of 1,000 bytes .* is ([\d,]+)"
    ) as told:
        plan(profile, targets(installed=1000.0), evaluate=known)
    smallest = int(told.value.message.rpartition(" ")[2].replace(",", ""))
    assert smallest == min(known.sizes(tried).installed for tried in [*known.tried])


@pytest.mark.parametrize("asked", [targets(), targets(drop=0.01)])
def test_without_examples_weights_are_rounded(asked):
    bare = made_profile(calibrated=False)
    chosen = plan(bare, asked, evaluate=Known())
    assert [step.technique for step in chosen.steps] == ["quantize_round", "quantize_float16"]
    assert set(chosen.steps[0].where) == set(bare.sites)
