"""One profile with every kind of site, made by hand, and its values' hash."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lilliput.model.profiles import Profile, SiteProfile, smoothed
from lilliput.model.sites import Site
from lilliput.model.spread import nothing_seen

SITES = (
    Site("linear", "linear", (96, 128), 96, 128),
    Site("turned", "matmul", (80, 72), 72, 80, transposed=True),
    Site("conv", "conv", (32, 16, 3, 3), 32, 144),
    Site("grouped", "conv", (24, 8, 3), 24, 24, groups=3),
    Site("depthwise", "conv", (40, 1, 3, 3), 40, 9, groups=40),
    Site("table", "embedding", (300, 64), 300, 64),
    Site("unseen", "linear", (16, 70), 16, 70),
)


def correlated(groups: int, columns: int, made: torch.Generator) -> Tensor:
    mix = torch.eye(columns) + 0.4 * torch.randn(groups, columns, columns, generator=made)
    return mix.transpose(1, 2) @ mix


def site_profile(site: Site, made: torch.Generator) -> SiteProfile:
    """Statistics as calibration leaves them behind; `unseen` has none."""
    if site.name == "unseen":
        return SiteProfile(site, None, torch.ones(site.rows), sensitivity=0.1)
    weights = torch.rand(site.rows, generator=made) + 0.2
    frequencies = None
    if site.kind == "embedding":
        frequencies = smoothed(torch.rand(site.rows, generator=made) * 500)
        weights = (frequencies / frequencies.mean()).float()
    factors = None
    if site.name == "conv":  # folded into it: what it multiplies is worth its square
        factors = torch.rand(site.rows, generator=made) * 3 - 1.5
        weights = weights * factors.square() + 1e-3
    second = correlated(site.groups, site.columns, made)
    known = SiteProfile(site, second, weights / weights.mean(), frequencies, factors, 1000, 0.01)
    if site.kind == "embedding":
        return known
    powers = second.diagonal(dim1=1, dim2=2).reshape(-1)
    own = torch.Generator().manual_seed(site.rows)
    rows = torch.randn(200, len(powers), generator=own) * powers.sqrt()
    seen = nothing_seen(len(powers)).with_rows(rows)
    return replace(known, inputs=seen, results=seen if site.kind == "conv" else None)


def made_profile() -> Profile:
    made = torch.Generator().manual_seed(0)
    values = {s.name: torch.randn(s.shape, generator=made) * 0.05 for s in SITES}
    values |= {"bias": torch.randn(96, generator=made), "norm": torch.ones(16)}
    sites = {site.name: site_profile(site, made) for site in SITES}
    return Profile("hash of the shapes", sites, values)


def digest(profile: Profile) -> str:
    found = hashlib.sha256()
    for name, value in profile.parameters.items():
        found.update(name.encode() + value.numpy().tobytes())
    for name, known in profile.sites.items():
        for tensor in (known.second, known.weights, known.row_factors, known.frequencies):
            found.update(name.encode() + (b"" if tensor is None else tensor.numpy().tobytes()))
    return found.hexdigest()


@pytest.fixture(scope="session")
def make_profile() -> Callable[[], Profile]:
    return made_profile


@pytest.fixture(scope="session")
def profile() -> Profile:
    return made_profile()


@pytest.fixture(scope="session")
def hash_of() -> Callable[[Profile], str]:
    return digest
