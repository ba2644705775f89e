"""Statistics and weights with nothing in them, held over THE TABLE: what comes out is finite."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lilliput.model.profiles import Profile, SiteProfile
from lilliput.model.sites import Site
from lilliput.model.spread import nothing_seen
from lilliput.techniques import LEARNING, STRUCTURAL, TABLE, PruneDamage, PruneWanda, ShareValues

SITES = (
    Site("linear", "linear", (24, 32), 24, 32),
    Site("conv", "conv", (8, 4, 3, 3), 8, 36),
    Site("depthwise", "conv", (12, 1, 3, 3), 12, 9, groups=12),
    Site("table", "embedding", (32, 24), 32, 24),
)
ROWS = 64


def rows_of(site: Site) -> Tensor:
    """What a site reads, (rows, groups * columns)."""
    made = torch.Generator().manual_seed(site.rows)
    return torch.randn(ROWS, site.groups * site.columns, generator=made)


def constant(rows: Tensor) -> Tensor:
    """Every example the same: a second moment of rank one."""
    return rows[:1].expand_as(rows).contiguous()


def silent(rows: Tensor) -> Tensor:
    """Nothing ever arrives: a second moment of zero."""
    return torch.zeros_like(rows)


def dead(rows: Tensor) -> Tensor:
    """Every other channel is silent."""
    rows = rows.clone()
    rows[:, ::2] = 0
    return rows


def loud(rows: Tensor) -> Tensor:
    """One channel reaches a million times as far as the others."""
    rows = rows.clone()
    rows[:, 0] *= 1e6
    return rows


def faint(rows: Tensor) -> Tensor:
    """Squares at the edge of what float32 holds."""
    return rows * 1e-18


def same(weight: Tensor) -> Tensor:
    """As it was drawn."""
    return weight


def with_dead_rows(weight: Tensor) -> Tensor:
    """Every other output channel is zero."""
    weight = weight.clone()
    weight[::2] = 0
    return weight


INPUTS = (constant, silent, dead, loud, faint)
CASES = [
    *(pytest.param(inputs, same, id=inputs.__name__) for inputs in INPUTS),
    pytest.param(dead, with_dead_rows, id="dead channels on both sides"),
    pytest.param(same, torch.ones_like, id="equal weights"),
    pytest.param(same, lambda weight: weight * 1e12, id="huge weights"),
    pytest.param(silent, torch.zeros_like, id="nothing at all"),
]


def profile_of(inputs: Callable[[Tensor], Tensor], weights: Callable[[Tensor], Tensor]) -> Profile:
    made = torch.Generator().manual_seed(0)
    values = {s.name: weights(torch.randn(s.shape, generator=made) * 0.05) for s in SITES}
    return Profile("hash", {site.name: _known(site, inputs) for site in SITES}, values)


def _known(site: Site, inputs: Callable[[Tensor], Tensor]) -> SiteProfile:
    rows = inputs(rows_of(site))
    grouped = rows.reshape(ROWS, site.groups, site.columns).transpose(0, 1)
    second = grouped.transpose(1, 2) @ grouped / ROWS
    known = SiteProfile(site, second, torch.ones(site.rows), sensitivity=0.01)
    if site.kind == "embedding":
        return replace(known, frequencies=torch.ones(site.rows))
    seen = nothing_seen(rows.shape[1]).with_rows(rows)
    return replace(known, inputs=seen, results=seen if site.name == "conv" else None)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in TABLE if kind.family not in STRUCTURAL | LEARNING],
    ids=lambda kind: kind.name,
)
@pytest.mark.parametrize(("inputs", "weights"), CASES)
def test_what_comes_out_is_finite(kind, inputs, weights):
    profile = profile_of(inputs, weights)
    for name in profile.sites:
        options = kind().options(profile, name)
        for option in options:
            assert np.isfinite([option.damage, option.storage]).all(), (name, option)
            assert min(option.damage, option.storage) >= 0, (name, option)
        tried = {str(o.settings): kind(**o.settings) for o in (*options[:1], *options[-1:])}
        for settings, technique in tried.items():
            for encoding in technique.apply(profile, (name,)).values():
                assert torch.isfinite(encoding.decode()).all(), (name, settings)


def test_dead_inputs_are_pruned_first():
    """Columns that never see anything cost nothing, so half of the weights go for free."""
    profile = profile_of(dead, same)
    for kind in (PruneWanda, PruneDamage):
        made = kind(amount=0.5).apply(profile, ("linear",))["linear"]
        assert not made.weight[:, ::2].any() and made.weight[:, 1::2].all(), kind.name
        assert profile.sites["linear"].damage(profile.matrix("linear"), made.weight) == 0


def test_weights_beyond_half_precision_keep_their_values():
    """The sizes of rows are stored in half precision, which ends at 65504."""
    profile = profile_of(same, lambda weight: weight * 1e8)
    weight = profile.matrix("linear")
    made = ShareValues(values=64).apply(profile, ("linear",))["linear"].decode()
    assert float((made - weight).square().mean() / weight.square().mean()) < 0.01
