"""Some rows of a site, by which what would become of all of them is judged."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lilliput.model.profiles import Profile, SiteProfile

SAMPLE_ROWS = 128
SAMPLE_WEIGHTS = 400_000


def sampled_rows(known: SiteProfile) -> tuple[Tensor, Tensor]:
    """Evenly spread rows of a site, whole groups of a grouped convolution, and those groups."""
    site, groups = known.site, 1 if known.second is None else known.second.shape[0]
    per_group = site.rows // groups
    wanted = max(SAMPLE_ROWS, SAMPLE_WEIGHTS // max(1, site.columns) // 4)
    if site.kind == "embedding":
        wanted = SAMPLE_WEIGHTS // site.columns
    if groups == 1:
        return _spread(site.rows, wanted), torch.zeros(1, dtype=torch.long)
    chosen = _spread(groups, math.ceil(wanted / per_group))
    return (chosen[:, None] * per_group + torch.arange(per_group)).reshape(-1), chosen


def sampled(profile: Profile, name: str) -> Profile:
    """The profile of one site as if it had only some of its rows.

    Itself where those are all, and where rows absorb each other's errors: of fewer rows each would
    cost more (1.4 times as much in MiniLM's hidden layers).
    """
    known = profile.sites[name]
    rows, groups = sampled_rows(known)
    if len(rows) == known.site.rows or known.output is not None:
        return profile
    grouped = known.second is not None and len(known.second) > 1
    site = replace(
        known.site,
        shape=(len(rows), known.site.columns),
        rows=len(rows),
        transposed=False,
        groups=len(groups) if grouped else known.site.groups,
    )
    fewer = replace(
        known,
        site=site,
        second=known.second[groups] if known.second is not None and grouped else known.second,
        weights=known.weights[rows],
        frequencies=None if known.frequencies is None else known.frequencies[rows],
        row_factors=None if known.row_factors is None else known.row_factors[rows],
    )
    return Profile(
        profile.model_hash,
        {name: fewer},
        {name: profile.matrix(name)[rows]},
        factors={} if grouped else profile.factors,
        orders={} if grouped else profile.orders,
    )


def _spread(count: int, wanted: int) -> Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(int)))
