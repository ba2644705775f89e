import pytest
from three_sites import made_profile

from lilliput.errors import UnreachableError
from lilliput.stages.mixing import Targets, Trial
from lilliput.stages.plan_fixed import plan_fixed


def sizes(plan):
    bits = plan.steps[0].settings.get("bits", 8)
    return Trial(storage=100 * bits, installed=900)


@pytest.mark.parametrize(
    ("storage", "installed", "bits"),
    [(None, None, 8), (800, None, 8), (799, 900, 7), (200, None, 2)],
)
def test_the_widest_codes_that_fit(storage, installed, bits):
    profile = made_profile()
    plan = plan_fixed(profile, Targets(storage, installed, None), sizes=sizes, seed=5)
    (step,) = plan.steps
    assert (step.technique, step.where) == ("quantize_fixed_point", tuple(profile.sites))
    assert step.settings.get("bits", 8) == bits and plan.seed == 5
    assert plan.predicted_storage_bytes == 100 * bits


def test_what_cannot_fit_is_named():
    with pytest.raises(UnreachableError, match="at least 200 bytes, the runnable one 900 bytes"):
        plan_fixed(made_profile(), Targets(199, None, None), sizes=sizes)
    with pytest.raises(UnreachableError, match="900 bytes"):
        plan_fixed(made_profile(), Targets(None, 899, None), sizes=sizes)
