"""A profile of three matrices, each less sensitive than the one before, and a bias."""

import torch

from lilliput.model.profiles import Profile, SiteProfile
from lilliput.model.sites import Site


def made_profile(*, calibrated: bool = True) -> Profile:
    made = torch.Generator().manual_seed(0)
    values, sites = {}, {}
    for number, name in enumerate(("first", "second", "third")):
        site = Site(name, "linear", (96, 128), 96, 128)
        mix = torch.eye(128) + 0.3 * torch.randn(128, 128, generator=made)
        values[name] = torch.randn(96, 128, generator=made)
        second = (mix.t() @ mix)[None] if calibrated else None
        sites[name] = SiteProfile(site, second, torch.ones(96), sensitivity=10.0 ** -(number + 3))
    return Profile("shapes", sites, values | {"bias": torch.randn(96, generator=made)})
