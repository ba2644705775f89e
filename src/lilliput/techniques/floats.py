"""Parameters rounded to what a shorter float type holds exactly, in their own type."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lilliput.model.encodings import Dense, Encoding, Made, Masked
from lilliput.model.profiles import Profile


def rounded_floats(
    profile: Profile,
    where: Sequence[str],
    *,
    made: Made,
    kind: torch.dtype,
    harmless: Callable[[Tensor], bool],
) -> dict[str, Encoding]:
    """The named parameters, rounded; those that would be harmed are left out.

    Args:
        profile: Weights.
        where: Names of parameters.
        made: What earlier steps made of them; what those removed stays removed.
        kind: The shorter type.
        harmless: Whether a parameter's numbers fit it.
    """
    found: dict[str, Encoding] = {}
    for name in where:
        before = made.get(name)
        value = (before.decode() if before else profile.parameters[name]).detach()
        if harmless(value):
            short = value.to(kind).to(value.dtype)
            found[name] = Masked(short, before.mask) if isinstance(before, Masked) else Dense(short)
    return found
