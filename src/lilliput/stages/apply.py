"""A plan becomes encodings: every step is applied to the untouched weights."""

from lilliput.errors import PlanError
from lilliput.model.encodings import Encoding
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.techniques import from_step


def apply(plan: Plan, profile: Profile) -> dict[str, Encoding]:
    """What the plan turns each parameter into. Neither the model nor the profile changes.

    Args:
        plan: Steps in order; a later step replaces what an earlier one made of a parameter.
        profile: Weights and statistics of the model it is applied to.

    Raises:
        PlanError: The plan was made for another architecture, names a parameter that does not
            exist, or a technique is unknown or cannot take the parameter.
    """
    check_fits(plan, profile.model_hash)
    encodings: dict[str, Encoding] = {}
    for step in plan.steps:
        technique = from_step(step)
        known = profile.parameters.keys() if technique.takes_any else profile.sites.keys()
        strange = [name for name in step.where if name not in known]
        if strange:
            raise PlanError(f"{step.technique}: the model has no site {strange[0]!r}")
        encodings |= technique.apply(profile, step.where)
    return encodings


def check_fits(plan: Plan, model_hash: str) -> None:
    """Whether a plan was made for this architecture; asked before hours are spent.

    Raises:
        PlanError: Names or shapes of the parameters differ.
    """
    if plan.model_hash != model_hash:
        raise PlanError(
            "this plan was made for another architecture",
            "parameter names and shapes must be the same; make a new plan with compress",
        )
