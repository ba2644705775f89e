"""A plan becomes encodings: each step builds on what those before it made of a parameter."""

from lilliput.errors import PlanError
from lilliput.model.encodings import Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.techniques import Technique, from_step


def apply(plan: Plan, profile: Profile) -> dict[str, Encoding]:
    """What the plan turns each parameter into. Neither the model nor the profile changes.

    Args:
        plan: Steps in order: prune, then share or quantize.
        profile: Weights and statistics of the model it is applied to.

    Raises:
        PlanError: The plan was made for another architecture, names a parameter that does not
            exist, or a technique is unknown, cannot take the parameter, or cannot come after the
            one before it.
    """
    check_fits(plan, profile.model_hash)
    encodings: dict[str, Encoding] = {}
    for step in plan.steps:
        technique = from_step(step)
        known = profile.parameters.keys() if technique.takes_any else profile.sites.keys()
        strange = [name for name in step.where if name not in known]
        if strange:
            raise PlanError(f"{step.technique}: the model has no site {strange[0]!r}")
        made = {name: encodings[name] for name in step.where if name in encodings}
        _check_order(technique, made)
        encodings |= technique.apply(profile, step.where, made=made)
    return encodings


def _check_order(technique: Technique, made: Made) -> None:
    for name, encoding in made.items():
        if not isinstance(encoding, technique.follows):
            raise PlanError(
                f"{technique.name} cannot take {name}: "
                f"an earlier step made it {type(encoding).__name__.lower()}",
                "one site takes steps in this order: prune, then share or quantize",
            )


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
