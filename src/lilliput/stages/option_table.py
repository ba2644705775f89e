"""What could become of each site, and what that would cost: filled as it is asked for."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lilliput.errors import PlanError
from lilliput.model.profiles import Profile
from lilliput.records import LimitName, Plan, Step
from lilliput.stages.apply import apply
from lilliput.stages.encoded_bytes import encoded_bytes
from lilliput.techniques import TABLE, Family, Fields, Option, Technique

EVERY: frozenset[LimitName] = frozenset(("storage", "installed", "memory", "latency"))
# Limits for which a family's techniques are candidates; a technique's own `serves` goes first.
# Bytes alone are best spent by quantizing: what is pruned or shared costs more damage at equal
# bytes (docs/benchmarks.md), and trying it takes most of the time.
SERVES: Mapping[Family, frozenset[LimitName]] = {"quantize": EVERY, "factorize": EVERY}
# What may follow a family on the same site: the factors of a product are quantized in their turn.
AFTER: Mapping[Family, tuple[str, ...]] = {"factorize": ("quantize_round",)}
BETWEEN = 4  # strengths put between two neighbours that differ in numbers only


@dataclass(frozen=True)
class Candidate:
    """One thing that could become of one site: techniques one after the other, mostly one.

    Attributes:
        chain: With their settings, in the order in which they are applied.
        option: What it would cost.
        strength: Place among the first technique's options at this site, mildest 0; what lies
            between two options has a fraction.
    """

    chain: tuple[Technique, ...]
    option: Option
    strength: float

    @property
    def name(self) -> str:
        """What the runtime's kernels and a uniform plan depend on: the techniques."""
        return "+".join(technique.name for technique in self.chain)

    def steps(self, where: str) -> tuple[Step, ...]:
        """Itself as entries of a plan."""
        return tuple(technique.step_of((where,)) for technique in self.chain)


class OptionTable:
    """Options by technique and site, each asked for once; linear in the number of sites.

    It holds numbers only. What is shared between techniques, the factorisations of the sites'
    statistics, stays in the profile: one per distinct second moment.

    Args:
        profile: Sites with statistics and sensitivity.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._known: dict[tuple[str, str], tuple[Option, ...]] = {}
        self._chains: dict[tuple[str, str], tuple[Candidate, ...]] = {}

    def options(self, technique: Technique, where: str) -> tuple[Option, ...]:
        """Strengths at one site, mildest first; none where the technique cannot take it."""
        key = repr(technique), where
        if key not in self._known:
            try:
                self._known[key] = tuple(technique.options(self.profile, where))
            except PlanError:
                self._known[key] = ()
        return self._known[key]

    def candidates(self, limits: Collection[LimitName]) -> dict[str, tuple[Candidate, ...]]:
        """By site, everything worth trying under these limits.

        Args:
            limits: Names of what is limited.

        Raises:
            PlanError: No technique can take a site.
        """
        found = {
            name: tuple(
                candidate
                for technique in techniques_for(limits)
                for candidate in (
                    *_spread(technique, self.options(technique, name)),
                    *self.chained(technique, name),
                )
            )
            for name in self.profile.sites
        }
        for name, options in found.items():
            if not options:
                raise PlanError(f"no technique can take {name}", "see `lilliput techniques`")
        return found

    def chained(self, first: Technique, where: str) -> tuple[Candidate, ...]:
        """What may follow a technique, on each of its options at one site: tried, not derived."""
        key = repr(first), where
        if key not in self._chains:
            self._chains[key] = tuple(
                Candidate((changed, after), self._tried((changed, after), option, where), place)
                for after in _after(first)
                for place, option in enumerate(self.options(first, where))
                for changed in [type(first)(**option.settings)]
            )
        return self._chains[key]

    def _tried(self, chain: tuple[Technique, ...], first: Option, where: str) -> Option:
        """Damage and bytes of what a chain makes of a site."""
        known = self.profile.sites[where]
        steps = tuple(technique.step_of((where,)) for technique in chain)
        plan = Plan(model_hash=self.profile.model_hash, steps=steps)
        made = apply(plan, self.profile)[where]
        lost = known.damage(self.profile.matrix(where), known.site.matrix(made.decode()))
        storage, installed = encoded_bytes(made)
        return Option({}, lost * (known.sensitivity or 0.0), storage, installed, first.work)


def _after(first: Technique) -> tuple[Technique, ...]:
    names = AFTER.get(first.family, ())
    return tuple(kind() for kind in TABLE if kind.name in names)  # type: ignore[misc]


def techniques_for(limits: Collection[LimitName]) -> tuple[Technique, ...]:
    """The techniques of THE TABLE that are candidates under these limits, at their defaults."""
    return tuple(kind() for kind in TABLE if limits_of(kind) & set(limits))  # type: ignore[misc]


def limits_of(kind: type[Fields]) -> frozenset[LimitName]:
    """The limits for which a technique is a candidate."""
    return SERVES.get(kind.family, frozenset()) if kind.serves is None else kind.serves


def _spread(base: Technique, options: tuple[Option, ...]) -> Iterator[Candidate]:
    """The options, and more between neighbours that differ in nothing but real numbers."""
    for place, option in enumerate(options):
        yield _candidate(base, option, place)
        if place + 1 < len(options):
            for part, between in _between(*options[place : place + 2]):
                yield _candidate(base, between, place + part)


def _candidate(base: Technique, option: Option, strength: float) -> Candidate:
    return Candidate((type(base)(**option.settings),), option, strength)


def _between(mild: Option, coarse: Option) -> Iterator[tuple[float, Option]]:
    """Strengths in geometric steps: damage goes log-linearly, sizes linearly."""
    differ = [n for n in mild.settings if mild.settings[n] != coarse.settings.get(n)]
    pairs: list[tuple[Any, Any]] = [(mild.settings[n], coarse.settings.get(n)) for n in differ]
    real = all(isinstance(v, float) and v > 0 for pair in pairs for v in pair)
    if mild.settings.keys() != coarse.settings.keys() or not real or not pairs:
        return
    for number in range(1, BETWEEN):
        part = number / BETWEEN
        values = {n: _geometric(a, b, part) for n, (a, b) in zip(differ, pairs, strict=True)}
        yield (
            part,
            replace(
                mild,
                settings=mild.settings | values,
                damage=_geometric(max(mild.damage, 1e-30), max(coarse.damage, 1e-30), part),
                storage=mild.storage + part * (coarse.storage - mild.storage),
                work=mild.work + part * (coarse.work - mild.work),
            ),
        )


def _geometric(first: float, last: float, part: float) -> float:
    """Three significant digits: a plan is read by people."""
    return float(f"{math.exp((1 - part) * math.log(first) + part * math.log(last)):.3g}")
