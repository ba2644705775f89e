"""What an earlier step of a plan left of a site, for the technique that comes after it."""

import torch
from torch import Tensor

from lilliput.model.encodings import Made, Masked
from lilliput.model.profiles import Profile, SiteProfile


def weight_left(profile: Profile, name: str, *, made: Made) -> Tensor:
    """(rows, columns) float32: the site's weight, or what an earlier step made of it."""
    if name not in made:
        return profile.matrix(name)
    return profile.sites[name].site.matrix(made[name].decode()).to(torch.float32)


def mask_of(known: SiteProfile, made: Made) -> Tensor | None:
    """(rows, columns) bool, False where an earlier step removed; None where none did."""
    before = made.get(known.site.name)
    return known.site.matrix(before.mask) if isinstance(before, Masked) else None
