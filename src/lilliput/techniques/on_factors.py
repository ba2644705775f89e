"""Any technique on the factors of products: each under the metric that it sees.

The first factor reads the site's inputs; what it becomes changes what the second reads, which is
therefore fitted to it before it is changed itself, and so on: the last makes up for all of them.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lilliput.model.encodings import Dense, Encoding, Factor, LowRank, Masked, factor_name
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.model.sites import Site
from lilliput.techniques.base import Technique
from lilliput.tensor.products import (
    Metric,
    fitted_factor,
    last_factor,
    marginal,
    output_side,
    prefix,
)


def on_factors(
    technique: Technique, profile: Profile, *, made: Mapping[str, LowRank]
) -> dict[str, Encoding]:
    """The products, a technique applied to the first factors of all, then to the second ones, ...

    Args:
        technique: What becomes of each factor; factors that it leaves out stay as they are fitted.
        profile: Weights and statistics of the sites.
        made: The products, by site.
    """
    found = {name: list(product.factors) for name, product in made.items()}
    for place in range(max((len(factors) for factors in found.values()), default=0)):
        parts = {
            factor_name(name, place): (name, _part(profile, name, factors, place))
            for name, factors in found.items()
            if place < len(factors)
        }
        sites = {part: known for part, (_, (known, _)) in parts.items()}
        values = {part: value for part, (_, (_, value)) in parts.items()}
        before = {part: found[name][place] for part, (name, _) in parts.items()}
        masked = {part: factor for part, factor in before.items() if isinstance(factor, Masked)}
        inner = Profile(profile.model_hash, sites, values)
        changed = technique.apply(inner, tuple(sites), made=masked)
        for part, (name, _) in parts.items():
            found[name][place] = _kept(changed.get(part), before[part], values[part])
    return {
        name: LowRank(tuple(found[name]), product.shape, product.transposed)
        for name, product in made.items()
    }


def _kept(changed: Encoding | None, before: Factor, fitted: Tensor) -> Factor:
    """What a factor became; where nothing did, its fitted values."""
    if isinstance(changed, Factor):
        return changed
    return before if isinstance(before, Masked) else Dense(fitted)


def _part(
    profile: Profile, name: str, factors: list[Factor], place: int
) -> tuple[SiteProfile, Tensor]:
    """A factor as a site with statistics, and its values fitted to the factors before it."""
    known, values = profile.sites[name], [factor.decode().float() for factor in factors]
    shape, last = tuple(values[place].shape), place == len(values) - 1
    second = profile.column_side(name)[0]
    whole = known.row_side
    value = values[place]
    if place and last:
        before = prefix(values[:-1], shape)
        value = last_factor(before, profile.matrix(name), second=second).reshape(shape)
    elif place:
        metric = Metric(second, whole)
        value = fitted_factor(values, place, weight=profile.matrix(name), metric=metric)
    side = output_side(values[place + 1 :], shape[0], output=whole)
    groups = _groups(values, place)
    diagonal = side if side.dim() == 1 else side.diagonal().clone()
    part = SiteProfile(
        site=_site(known.site, factor_name(name, place), shape, groups=groups, last=last),
        second=_seen(second, known.site, values, place),
        weights=diagonal,
        frequencies=known.frequencies if last else None,
        row_factors=known.row_factors if last else None,
        sensitivity=known.sensitivity,
        output=None if groups > 1 or side.dim() == 1 else side,
    )
    return part, value


def _groups(values: list[Tensor], place: int) -> int:
    """A depthwise factor has one group per channel."""
    channels = values[place - 1].shape[0] if place else values[0].shape[1]
    return channels // values[place].shape[1]


def _site(whole: Site, name: str, shape: tuple[int, ...], *, groups: int, last: bool) -> Site:
    table = whole.kind == "embedding" and not last
    return Site(
        name=name,
        kind="linear" if table else whole.kind,
        shape=shape,
        rows=shape[0],
        columns=math.prod(shape[1:]),
        groups=groups,
        uses=whole.uses,
    )


def _seen(second: Tensor, site: Site, values: list[Tensor], place: int) -> Tensor:
    """H of what a factor reads, (groups, columns, columns)."""
    shape, groups = values[place].shape, _groups(values, place)
    dense = (shape[0], shape[1] * groups, *shape[2:])
    before = prefix(values[:place], dense)
    kernel = site.shape[2:] if len(shape) > 2 else ()
    kernels = [value.shape[2:] for value in values[: place + 1]]
    walked = [math.prod(sizes) for sizes in zip(*kernels, strict=True)]
    seen = before @ marginal(second, kernel, walked=walked) @ before.t()
    if groups == 1:
        return seen[None]
    taps = shape[1] * math.prod(shape[2:])
    blocks = seen.reshape(groups, taps, groups, taps)
    return torch.stack([blocks[group, :, group] for group in range(groups)])
