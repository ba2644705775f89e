"""plan, where the artifact computes in integers only: the widest codes that fit."""

from collections.abc import Callable

from lilliput.errors import UnreachableError
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.stages.mixing import Targets, Trial
from lilliput.techniques import QuantizeFixedPoint
from lilliput.verdicts import bytes_text


def plan_fixed(
    profile: Profile, targets: Targets, *, sizes: Callable[[Plan], Trial], seed: int = 0
) -> Plan:
    """One width for all sites, 8 bits down to 2: the widest whose files fit.

    Args:
        profile: Weights of the model.
        targets: Limits; those on storage and installed size steer.
        sizes: What the files of a plan weigh.
        seed: Of everything random.

    Raises:
        UnreachableError: Not even 2 bits fit; names the smallest size.
    """
    reached = []
    for bits in range(8, 1, -1):
        step = QuantizeFixedPoint(bits=bits).step_of(tuple(profile.sites))
        plan = Plan(model_hash=profile.model_hash, steps=(step,), seed=seed)
        found = sizes(plan)
        reached.append(found)
        if _fits(found.storage, targets.storage) and _fits(found.installed, targets.installed):
            return plan.model_copy(update={"predicted_storage_bytes": found.storage})
    storage, installed = (min(getattr(r, n) for r in reached) for n in ("storage", "installed"))
    raise UnreachableError(
        f"in fixed point the packed file has at least {bytes_text(storage)}, "
        f"the runnable one {bytes_text(installed)}",
        "let more remain, or take another arithmetic",
    )


def _fits(size: int, limit: float | None) -> bool:
    return limit is None or size <= limit
