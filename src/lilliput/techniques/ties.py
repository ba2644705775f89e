"""Sites that have one weight between them: their common statistics, and techniques on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lilliput.model.encodings import Dense, Encoding, Made
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.techniques.base import Technique
from lilliput.tensor.second_order import damped


def joined(profile: Profile, names: Sequence[str]) -> SiteProfile:
    """Several sites of one shape as one: an error costs what it costs all of them together."""
    known = [profile.sites[name] for name in names]
    worths = [1.0 if each.sensitivity is None else each.sensitivity for each in known]
    sides = [worth * profile.column_side(n) for n, worth in zip(names, worths, strict=True)]
    outputs = [each.output for each in known if each.output is not None]
    return replace(
        known[0],
        second=torch.stack(sides).sum(0),
        weights=torch.stack([each.weights for each in known]).mean(0),
        output=torch.stack(outputs).mean(0) if len(outputs) == len(known) else None,
        sensitivity=1.0,
    )


def common_weight(profile: Profile, names: Sequence[str]) -> Tensor:
    """The weight that costs several sites least: their mean under what they read.

    ``C (sum s H) = sum s W H`` with the sensitivities s.

    Args:
        profile: Weights and statistics.
        names: Sites of one shape.

    Returns:
        (rows, columns) float32.
    """
    total = wanted = torch.zeros(())
    for name in names:
        side, sensitivity = profile.column_side(name), profile.sites[name].sensitivity
        second = damped(side) * (1.0 if sensitivity is None else sensitivity)
        weight = profile.matrix(name).double()
        total = total + second
        wanted = wanted + weight.reshape(len(side), -1, weight.shape[1]) @ second
    solved: Tensor = torch.linalg.solve(total, wanted, left=False)
    return solved.reshape(-1, solved.shape[-1]).float()


def ties_among(made: Made) -> list[list[str]]:
    """Parameters that an earlier step gave one weight, two or more each."""
    groups: dict[int, list[str]] = {}
    for name, encoding in made.items():
        if isinstance(encoding, Dense):
            groups.setdefault(encoding.weight.data_ptr(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def on_ties(
    technique: Technique, profile: Profile, *, made: Made, ties: Sequence[Sequence[str]]
) -> dict[str, Encoding]:
    """A technique on common weights: all that have one get the same encoding."""
    found: dict[str, Encoding] = {}
    for names in ties:
        first = names[0]
        common = {first: made[first].decode()}
        inner = Profile(profile.model_hash, {first: joined(profile, names)}, common)
        changed: Mapping[str, Encoding] = technique.apply(inner, (first,))
        found |= {name: changed.get(first, made[first]) for name in names}
    return found
