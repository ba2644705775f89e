"""Where bytes, time and sensitivity are, in sentences, before hours are spent."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lilliput.environment import int8_arithmetic
from lilliput.records import SiteReport
from lilliput.stages.wording import clean, share, size

INTEGER_GAIN = 4.0  # multiply-adds of int8 over those of float32, at best; and bytes read
TINY_MS = 0.01  # an operation this short is mostly the runtime's own overhead
CACHE_BYTES = 8e6  # what is read at every call and does not stay near the processor
FEW_USES = 16  # multiply-adds per weight below which reading it takes longer than using it
MOSTLY = 0.5
NAMED = 3


@dataclass(frozen=True)
class Times:
    """Where the original's time goes on this machine.

    Attributes:
        sites: Milliseconds by site.
        others: Milliseconds by kind of operation that reads no site.
        operations: How many operations a call runs.
        features: Instruction sets of the processor, see `lilliput.environment.cpu_features`.
    """

    sites: Mapping[str, float]
    others: Mapping[str, float]
    operations: int
    features: Sequence[str]

    @property
    def total(self) -> float:
        """Milliseconds of a call."""
        return sum(self.sites.values()) + sum(self.others.values())

    @property
    def site_share(self) -> float:
        """Share of the time that is spent in sites."""
        return sum(self.sites.values()) / self.total if self.total else 0.0


def answers(sites: Sequence[SiteReport], times: Times | None) -> tuple[str, ...]:
    """What a reader should know before compressing, one sentence each.

    Args:
        sites: Every site, untouched.
        times: None where no runtime could run the model.
    """
    told = [*_bytes(sites), *_sensitivity(sites)]
    if times is not None and times.total > 0:
        told += [*_time(times), *_faster(sites, times)]
    return tuple(told)


def _bytes(sites: Sequence[SiteReport]) -> Iterator[str]:
    total = sum(site.original_bytes for site in sites)
    if total:
        kinds: dict[str, float] = defaultdict(float)
        for site in sites:
            kinds[site.kind] += site.original_bytes
        names = {site.name: float(site.original_bytes) for site in sites}
        yield (
            f"Bytes: {size(total)} in {len(sites)} sites; {_largest(kinds, total)}; "
            f"{_largest(names, total)}."
        )


def _sensitivity(sites: Sequence[SiteReport]) -> Iterator[str]:
    known = {s.name: s.sensitivity for s in sites if s.sensitivity}
    if known and len(known) > 1:
        ratio = max(known.values()) / max(min(known.values()), 1e-300)
        names = sorted(known, key=lambda name: -known[name])[:NAMED]
        yield (
            f"Sensitivity: the same error moves the output up to {ratio:,.0f} times as far in one "
            f"site as in another; most in {', '.join(clean(name) for name in names)}."
        )


def _time(times: Times) -> Iterator[str]:
    yield (
        f"Time: a call takes {times.total:.3g} ms in {times.operations} operations, "
        f"{share(times.site_share)} of it in sites; "
        f"{_largest({**times.sites, **times.others}, times.total)}."
    )


def _faster(sites: Sequence[SiteReport], times: Times) -> Iterator[str]:
    """Why it will not get faster here, or how much faster it could get."""
    reasons = [*_obstacles(sites, times)]
    if reasons:
        yield f"This will hardly get faster on this machine, because {'; and '.join(reasons)}."
        return
    at_best = 1 / (1 - times.site_share + times.site_share / INTEGER_GAIN)
    yield (
        f"It could get at most {at_best:.1f} times as fast on this machine: integer kernels do up "
        f"to {INTEGER_GAIN:.0f} times the multiply-adds, on {share(times.site_share)} of the time."
    )
    if _reading(sites, times):
        yield (
            "Most of the time weights are read, not used: smaller weights alone make it faster, "
            "and larger batches cost little."
        )


def _obstacles(sites: Sequence[SiteReport], times: Times) -> Iterator[str]:
    if times.site_share < MOSTLY:
        rest = sum(times.others.values())
        yield (
            f"{share(1 - times.site_share)} of the time is spent in operations that no technique "
            f"touches ({_largest(times.others, rest)})"
        )
    if int8_arithmetic(times.features) == "none" and not _reading(sites, times):
        yield (
            "its processor has no integer dot products, so that int8 saves memory but hardly time"
        )
    if times.total / max(1, times.operations) < TINY_MS:
        yield (
            f"its {times.operations} operations take {1000 * times.total / times.operations:.2g} "
            "microseconds each, which is the runtime's own overhead; larger batches would help"
        )


def _reading(sites: Sequence[SiteReport], times: Times) -> bool:
    """Whether most of the sites' time goes to weights that are read more than they are used."""
    heavy = {s.name for s in sites if _uses(s) < FEW_USES}
    spent = sum(times.sites.get(name, 0.0) for name in heavy)
    read = sum(s.original_bytes for s in sites if s.name in heavy and s.kind != "embedding")
    return read > CACHE_BYTES and spent > MOSTLY * times.total


def _uses(site: SiteReport) -> float:
    """Multiply-adds per weight."""
    weights = 1
    for length in site.shape:
        weights *= length
    return (site.macs or 0) / max(1, weights)


def _largest(amounts: Mapping[str, float], total: float) -> str:
    """``conv 88 %, linear 12 %``"""
    names = sorted(amounts, key=lambda name: -amounts[name])[:NAMED]
    return ", ".join(f"{clean(name)} {share(amounts[name] / total)}" for name in names)
