"""One option for each site, so that several limits hold with the least total damage."""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

GAP = 1e-4  # relative distance from the optimum at which the solver may stop
PASSES = 4
SHRUNK = 0.3  # a total this much below the scale is solved for again
MOST_NODES = 2000  # a limit on work that, unlike one on time, gives the same answer everywhere


def undominated(costs: np.ndarray) -> np.ndarray:
    """Places of the options that no other beats in every cost, in their order.

    Args:
        costs: (options, costs), the damage among them. Of equal options the first is kept.
    """
    kept = []
    for place, cost in enumerate(costs):
        no_worse = (costs <= cost).all(1)
        better = no_worse & (costs < cost).any(1)
        twins = no_worse & ~better
        if not better.any() and not twins[:place].any():
            kept.append(place)
    return np.array(kept, int)


def least_damage(
    damage: Sequence[np.ndarray], costs: Sequence[np.ndarray], *, limits: np.ndarray
) -> list[int] | None:
    """The cheapest choice as a mixed-integer program, one-hot per site (HiGHS).

    Solved again without the options that alone cost more than all that was found: the solver's
    tolerances are absolute, and the damage of options spans many powers of ten.

    Args:
        damage: Of each site's options, (options,) >= 0 each.
        costs: Of each site's options, (options, limits) each; of any sign.
        limits: (limits,) what the chosen options may cost together; infinite where unlimited.

    Returns:
        The option of each site, or None where no choice keeps every limit.
    """
    kept = [undominated(np.column_stack([d, c])) for d, c in zip(damage, costs, strict=True)]
    total = float(sum(d[k].max() for d, k in zip(damage, kept, strict=True)))
    best: list[int] | None = None
    for _ in range(PASSES):
        picks = _solved(damage, costs, kept, limits=limits, scale=total or 1.0)
        if picks is None:
            return best
        found = float(sum(d[i] for d, i in zip(damage, picks, strict=True)))
        best = picks if best is None or found <= total else best
        if not 0 < found < SHRUNK * total:
            return best
        total = found
        kept = [k[d[k] <= total] for d, k in zip(damage, kept, strict=True)]
    return best


def _solved(
    damage: Sequence[np.ndarray],
    costs: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    *,
    limits: np.ndarray,
    scale: float,
) -> list[int] | None:
    worth = np.concatenate([d[k] for d, k in zip(damage, kept, strict=True)])
    spent = np.concatenate([c[k] for c, k in zip(costs, kept, strict=True)])  # (variables, limits)
    sizes = [len(k) for k in kept]
    one_each = csr_array(
        (np.ones(len(worth)), (np.repeat(np.arange(len(kept)), sizes), np.arange(len(worth))))
    )
    constraints = [LinearConstraint(one_each, 1, 1)]
    for place in np.flatnonzero(np.isfinite(limits)):
        unit = np.abs(spent[:, place]).max() or 1.0
        constraints.append(
            LinearConstraint(spent[None, :, place] / unit, -np.inf, limits[place] / unit)
        )
    with _silent():
        found = milp(
            worth / scale,
            constraints=constraints,
            integrality=np.ones(len(worth)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": GAP, "node_limit": MOST_NODES},
        )
    if found.x is None:
        return None
    parts = np.split(found.x, np.cumsum(sizes)[:-1])
    return [int(k[int(np.argmax(part))]) for k, part in zip(kept, parts, strict=True)]


@contextmanager
def _silent() -> Iterator[None]:
    """HiGHS prints lines of its own to the process's standard output, where our JSON goes."""
    sys.stdout.flush()
    library = ctypes.CDLL(None) if os.name == "posix" else None
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        if library is not None:
            library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def least_cost(costs: Sequence[np.ndarray]) -> list[int]:
    """Each site's option with the least of one cost; of equals the first.

    Args:
        costs: (options,) for each site.
    """
    return [int(np.argmin(cost)) for cost in costs]
