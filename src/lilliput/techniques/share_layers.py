"""Layers whose weights are nearly equal get one weight between them, stored once."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.model.encodings import NOTHING, Dense, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.techniques.base import Option
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.ties import common_weight

FLOAT_BYTES = 4


class ShareLayers(Fields):
    """Ties named sites of one shape, pair by pair, those first that lose least by it.

    The common weight is the mean under what the sites read and what they are worth. A later step
    that quantizes treats it as one weight. A BatchNorm folded into a convolution keeps the rows
    apart: there the file holds integers once, but floats twice.

    Attributes:
        amount: Share of the weights of all named sites that may go, in [0, 1).
        most: A tie may cost at most this share of what losing the sites altogether would, by damage
            and by plain squares, in [0, 1].
    """

    name: ClassVar[str] = "share_layers"
    family: ClassVar[Family] = "share"
    source: ClassVar[str] = "Lan et al. 2020, arXiv 1909.11942, here after training"
    summary: ClassVar[str] = "one weight for layers that are nearly equal"

    amount: float = Field(0.5, ge=0, lt=1, json_schema_extra={"unit": "share removed"})
    most: float = Field(0.01, ge=0, le=1, json_schema_extra={"unit": "share of the loss"})

    @property
    def joint(self) -> bool:
        """Sites share an amount."""
        return True

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """One: tied to the site that it loses least with; none where no other has its shape."""
        twins = [name for name in profile.sites if name != where and _alike(profile, name, where)]
        if not twins:
            return ()
        pairs = [((where, twin), common_weight(profile, (where, twin))) for twin in twins]
        least = min(sum(_worth(profile, n, common) for n in names) for names, common in pairs)
        half = FLOAT_BYTES * profile.sites[where].site.size // 2
        return (Option({"most": 1.0}, least / 2, float(half), half),)

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """The sites that are tied; the others are left out."""
        room = self.amount * sum(profile.sites[name].site.size for name in where)
        groups: dict[str, tuple[str, ...]] = {name: (name,) for name in where}
        pairs = [pair for pair in combinations(where, 2) if _alike(profile, *pair)]
        whole = {name: _lost(profile, name) for name in where}
        costs = {pair: _share(profile, pair, whole=whole) for pair in pairs}
        for one, other in sorted(pairs, key=lambda pair: costs[pair]):
            size = profile.sites[one].site.size
            if groups[one] == groups[other] or size > room or costs[one, other] > self.most:
                continue
            union = tuple(name for name in where if name in groups[one] + groups[other])
            if len(union) > 2 and _share(profile, union, whole=whole) > self.most:
                continue
            groups |= dict.fromkeys(union, union)
            room -= size
        return _tied(profile, [group for group in set(groups.values()) if len(group) > 1])


def _alike(profile: Profile, one: str, other: str) -> bool:
    """Whether two sites can have one weight."""
    sites = [profile.sites[name].site for name in (one, other)]
    views = [(site.shape, site.transposed, site.groups) for site in sites]
    types = {profile.parameters[name].dtype for name in (one, other)}
    return views[0] == views[1] and len(types) == 1


def _lost(profile: Profile, name: str) -> float:
    """What losing a site altogether would cost in the currency."""
    return _worth(profile, name, torch.zeros_like(profile.matrix(name)))


def _worth(profile: Profile, name: str, value: Tensor) -> float:
    known = profile.sites[name]
    sensitivity = 1.0 if known.sensitivity is None else known.sensitivity
    return sensitivity * known.damage(profile.matrix(name), value)


def _share(profile: Profile, names: Sequence[str], *, whole: Mapping[str, float]) -> float:
    """What tying costs, of what losing the sites altogether would: by damage or by plain squares.

    The larger of both: where a few directions of the input carry nearly all energy, layers that
    have nothing else in common look alike by damage.
    """
    weights = [profile.matrix(name) for name in names]
    common = common_weight(profile, names)
    plain = sum(float((weight - common).square().sum()) for weight in weights)
    energy = sum(float(weight.square().sum()) for weight in weights)
    lost = sum(whole[name] for name in names)
    tied = sum(_worth(profile, name, common) for name in names)
    return max(tied / lost if lost else 0.0, plain / energy if energy else 0.0)


def _tied(profile: Profile, groups: Sequence[Sequence[str]]) -> dict[str, Encoding]:
    found: dict[str, Encoding] = {}
    for names in groups:
        site, value = profile.sites[names[0]].site, profile.parameters[names[0]]
        common = site.parameter(common_weight(profile, names)).contiguous().to(value.dtype)
        found |= dict.fromkeys(names, Dense(common))
    return {name: found[name] for name in profile.sites if name in found}
