"""A plan becomes encodings: each step builds on what those before it made of a parameter."""

import difflib
from collections.abc import Collection, Sequence

from lilliput.errors import PlanError
from lilliput.model.encodings import Dense, Encoding, LowRank, Made
from lilliput.model.profiles import Profile
from lilliput.records import Plan, Step
from lilliput.techniques import Technique, from_step, on_factors, on_ties, ties_among

LATER = ("share", "quantize")  # families whose steps can follow a factorization


def apply(plan: Plan, profile: Profile) -> dict[str, Encoding]:
    """What the plan turns each parameter into. Neither the model nor the profile changes.

    Args:
        plan: Steps in order: prune, factorize, then share or quantize.
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
        _check_names(step, profile.parameters if technique.takes_any else profile.sites)
        made = {name: encodings[name] for name in step.where if name in encodings}
        _check_order(technique, made)
        encodings |= _apply_step(technique, profile, step.where, made=made)
    return encodings


def _apply_step(
    technique: Technique, profile: Profile, where: Sequence[str], *, made: Made
) -> dict[str, Encoding]:
    """One step: on whole weights, on the factors of products, on weights that several share."""
    products = {name: found for name, found in made.items() if isinstance(found, LowRank)}
    ties = ties_among(made)
    apart = products.keys() | {name for names in ties for name in names}
    plain = [name for name in where if name not in apart]
    before = {name: found for name, found in made.items() if name not in apart}
    return {
        **technique.apply(profile, plain, made=before),
        **on_factors(technique, profile, made=products),
        **on_ties(technique, profile, made=made, ties=ties),
    }


def _check_order(technique: Technique, made: Made) -> None:
    tied = {name for names in ties_among(made) for name in names}
    for name, encoding in made.items():
        parts: list[Encoding] = [encoding]
        if isinstance(encoding, LowRank) and technique.family in LATER:
            parts = [part for part in encoding.factors if not isinstance(part, Dense)]
        elif name in tied and technique.family == "quantize":
            parts = []
        wrong = next((part for part in parts if not isinstance(part, technique.follows)), None)
        if wrong is not None:
            raise PlanError(
                f"{technique.name} cannot take {name}: "
                f"an earlier step made it {type(wrong).__name__.lower()}",
                "one site takes steps in this order: prune, factorize, then share or quantize",
            )


def check_steps(steps: Sequence[Step], sites: Collection[str] | None = None) -> None:
    """What can be seen of a plan's steps before anything is profiled.

    Args:
        steps: Steps on weights, as a user may have written them.
        sites: The model's sites; None where they are not known yet.

    Raises:
        PlanError: A technique or a field is unknown, a value is out of range, or a step names no
            site or one that does not exist.
    """
    for step in steps:
        technique = from_step(step)
        if not step.where:
            raise PlanError(
                f"{step.technique}: where = [] names no site", "`lilliput profile` lists the sites"
            )
        if sites is not None and not technique.takes_any:
            _check_names(step, sites)


def _check_names(step: Step, known: Collection[str]) -> None:
    strange = next((name for name in step.where if name not in known), None)
    if strange is None:
        return
    close = difflib.get_close_matches(strange, known, n=1)
    raise PlanError(
        f"{step.technique}: the model has no site {strange!r}",
        f"did you mean {close[0]}?" if close else "`lilliput profile` lists the sites",
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
