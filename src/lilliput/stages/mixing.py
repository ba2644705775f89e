"""Several limits at once: the sites' candidates as one mixed-integer program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from lilliput.model.profiles import Profile
from lilliput.records import LimitName, Plan, Step
from lilliput.stages.option_table import Candidate, OptionTable
from lilliput.techniques import QuantizeFloat16
from lilliput.tensor.choosing import least_cost, least_damage

COSTS: tuple[LimitName, ...] = ("storage", "installed", "memory", "latency")
# Shares of the limits aimed at: the coder's last bytes must still fit, and a latency or memory is
# proved only where its whole 95 % bound is inside.
AIMS = np.array([0.997, 0.999, 0.97, 0.96])
GROWTH = 1.02  # factor by which limits are relaxed until a choice keeps all of them


@dataclass(frozen=True)
class Targets:
    """The limits in plain numbers.

    Attributes:
        storage: Bytes, or None.
        installed: Bytes, or None.
        drop: In the metric's unit, or None where there is nothing to measure it on.
        memory: Bytes resident, or None.
        latency: Milliseconds, or None.
    """

    storage: float | None
    installed: float | None
    drop: float | None
    memory: float | None = None
    latency: float | None = None

    @property
    def mixed(self) -> bool:
        """Whether more than sizes on disk count, so that kinds of kernels must be chosen."""
        return self.memory is not None or self.latency is not None

    @property
    def steering(self) -> tuple[LimitName, ...]:
        """Names of the costs that are limited."""
        return tuple(name for name in COSTS if getattr(self, name) is not None)

    @property
    def limits(self) -> np.ndarray:
        """(4,) in the order of `COSTS`, infinite where unlimited."""
        asked = [getattr(self, name) for name in COSTS]
        return np.array([np.inf if value is None else value for value in asked], float)


@dataclass(frozen=True)
class Trial:
    """What a plan turned out to cost, from its real files and on the search examples.

    Attributes:
        storage: Bytes of the packed file.
        installed: Bytes of the runnable file.
        memory: Bytes resident while it runs; None where it was not measured.
        latency: Milliseconds of one call; likewise.
    """

    storage: int
    installed: int
    memory: float | None = None
    latency: float | None = None

    @property
    def costs(self) -> np.ndarray:
        """(4,) in the order of `COSTS`; zero where it was not measured."""
        found = (getattr(self, name) for name in COSTS)
        return np.array([0.0 if value is None else value for value in found], float)


class Costs(Protocol):
    """What memory and latency an option has on this machine; see `stages.price`."""

    @property
    def rest(self) -> tuple[float, float]:
        """Bytes and milliseconds of everything that is no site."""
        ...

    def of(self, where: str, candidate: Candidate) -> tuple[float, float]:
        """Bytes and milliseconds of a site that became this."""
        ...


@dataclass(frozen=True)
class Mixture:
    """The program: what each site could become, and what all of it may cost.

    Attributes:
        profile: The sites.
        candidates: By site.
        limits: (4,) what may remain, in the order of `COSTS`.
        rest: (4,) cost of everything that is no site.
        seed: Written into plans.
    """

    profile: Profile
    candidates: Mapping[str, tuple[Candidate, ...]]
    limits: np.ndarray
    rest: np.ndarray
    seed: int = 0
    _arrays: dict[str, list[np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, table: OptionTable, targets: Targets, *, costs: Costs | None = None, seed: int = 0
    ) -> "Mixture":
        """All candidates that can help with the limits, priced where there is a cost model."""
        found = table.candidates(targets.steering)
        rest = np.array([other_bytes(table.profile), other_bytes(table.profile) * 2, 0, 0])
        if costs is not None:
            found = {
                n: tuple(_priced(c, costs.of(n, c)) for c in some) for n, some in found.items()
            }
            rest[2:] = costs.rest
        return cls(table.profile, found, targets.limits, rest, seed)

    @property
    def costs(self) -> list[np.ndarray]:
        """(candidates, 4) of each site, in the order of `COSTS`."""
        if "costs" not in self._arrays:
            self._arrays["costs"] = [
                np.array([_costs(c.option) for c in some]) for some in self.candidates.values()
            ]
        return self._arrays["costs"]

    @property
    def damage(self) -> list[np.ndarray]:
        """(candidates,) of each site."""
        if "damage" not in self._arrays:
            self._arrays["damage"] = [
                np.array([c.option.damage for c in some]) for some in self.candidates.values()
            ]
        return self._arrays["damage"]

    def corrected(self, picks: Sequence[int], trial: Trial) -> "Mixture":
        """With what one real file told of everything that is not predicted."""
        measured = [getattr(trial, name) is not None for name in COSTS]
        rest = np.where(measured, trial.costs - self.spent(picks) + self.rest, self.rest)
        return replace(self, rest=rest)

    def solve(self, *, aims: np.ndarray = AIMS, weights: np.ndarray | None = None) -> Sequence[int]:
        """The candidate of each site with least total damage; empty where no choice fits.

        Args:
            aims: Shares of the limits.
            weights: (sites,) factors on the sites' damage.
        """
        worth = np.ones(len(self.candidates)) if weights is None else weights
        damage = [w * d for w, d in zip(worth, self.damage, strict=True)]
        return least_damage(damage, self.costs, limits=aims * self.limits - self.rest) or ()

    def least(self, name: LimitName) -> Sequence[int]:
        """The choice with least of one cost, whatever the damage."""
        place = COSTS.index(name)
        return least_cost([cost[:, place] for cost in self.costs])

    def nearest(self) -> Sequence[int]:
        """The choice that keeps all limits after they are relaxed by one factor, the least one."""
        factor = GROWTH
        while not (picks := self.solve(aims=np.full(len(COSTS), factor))):
            factor *= GROWTH
        return picks

    def spent(self, picks: Sequence[int]) -> np.ndarray:
        """(4,) predicted cost of a choice, everything else included."""
        return np.asarray(
            sum((c[i] for c, i in zip(self.costs, picks, strict=True)), start=self.rest)
        )

    def plan(self, picks: Sequence[int]) -> Plan:
        """A choice as a plan, with what it is predicted to cost."""
        steps = [
            options[pick].steps(name)
            for (name, options), pick in zip(self.candidates.items(), picks, strict=True)
        ]
        spent = dict(zip(COSTS, self.spent(picks), strict=True))
        return Plan(
            model_hash=self.profile.model_hash,
            steps=(*_together(steps), *float_steps(self.profile)),
            predicted_damage=float(sum(d[i] for d, i in zip(self.damage, picks, strict=True))),
            predicted_storage_bytes=round(spent["storage"]),
            predicted_installed_bytes=round(spent["installed"]),
            predicted_memory_bytes=round(spent["memory"]) or None,
            predicted_latency_ms=float(f"{spent['latency']:.4g}") or None,
            seed=self.seed,
        )

    def fits(self, trial: Trial) -> bool:
        """Whether what was measured of a plan keeps every limit."""
        return bool((trial.costs <= self.limits).all())


def float_steps(profile: Profile) -> tuple[Step, ...]:
    """Everything that is no site, in half precision."""
    others = [name for name in profile.parameters if name not in profile.sites]
    return (QuantizeFloat16().step_of(others),) if others else ()


def other_bytes(profile: Profile) -> float:
    """First guess of everything in the packed file that is no site: small floats and the graph."""
    others = [
        value.numel() for name, value in profile.parameters.items() if name not in profile.sites
    ]
    return 2.0 * sum(others) + 300.0 * len(profile.sites)


def _costs(option: object) -> list[float]:
    return [getattr(option, name) or 0.0 for name in COSTS]


def _priced(candidate: Candidate, price: tuple[float, float]) -> Candidate:
    option = replace(candidate.option, memory=price[0], latency=price[1])
    return replace(candidate, option=option)


def _together(chains: Sequence[tuple[Step, ...]]) -> list[Step]:
    """Equal steps at the same place of their sites' chains as one, in order of their first site."""
    found: dict[tuple[int, str, str], Step] = {}
    for place in range(max(map(len, chains), default=0)):
        for chain in chains:
            for step in chain[place : place + 1]:
                key = place, step.technique, str(sorted(step.settings.items()))
                where = (*(found[key].where if key in found else ()), *step.where)
                found[key] = step.model_copy(update={"where": where})
    return list(found.values())
