"""Uniform plans: one technique at one strength for all sites, the bar that a mixture must clear."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from lilliput.records import Plan
from lilliput.stages.mixing import Mixture

TRIES = 3  # strengths of one technique whose files are written


def techniques(mixture: Mixture) -> tuple[str, ...]:
    """Names of the techniques among the candidates, in order."""
    return tuple(sorted({c.name for some in mixture.candidates.values() for c in some}))


def uniform_picks(mixture: Mixture, technique: str) -> Iterator[Sequence[int]]:
    """Choices of one technique for all sites, the mildest that is predicted to fit first.

    A site that the technique cannot take gets what damages it least.
    """
    strengths = sorted(
        {c.strength for some in mixture.candidates.values() for c in some if c.name == technique}
    )
    for strength in strengths:
        picks = [
            _closest(some, damage, technique, strength)
            for some, damage in zip(mixture.candidates.values(), mixture.damage, strict=True)
        ]
        if (mixture.spent(picks) <= mixture.limits).all():
            yield picks


def _closest(some: Sequence[object], damage: np.ndarray, technique: str, strength: float) -> int:
    own = [n for n, c in enumerate(some) if getattr(c, "name", "") == technique]
    if not own:
        return int(np.argmin(damage))
    return min(own, key=lambda n: abs(getattr(some[n], "strength", 0.0) - strength))


def rescaled(mixture: Mixture, ratios: dict[str, float]) -> Mixture:
    """With each technique's damage times what its uniform plan measured over what was predicted."""
    candidates = {
        name: tuple(
            replace(c, option=replace(c.option, damage=c.option.damage * ratios.get(c.name, 1.0)))
            for c in some
        )
        for name, some in mixture.candidates.items()
    }
    return replace(mixture, candidates=candidates, _arrays={})


def ratio(plan: Plan, divergence: float) -> float | None:
    """Measured over predicted; None where either is nothing."""
    known = plan.predicted_damage
    return divergence / known if known and np.isfinite(divergence) and divergence > 0 else None
