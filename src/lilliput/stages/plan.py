"""Choose a technique and a strength for every site so that the limits hold with least damage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lilliput.errors import UnreachableError
from lilliput.model.profiles import Profile
from lilliput.records import Plan, Step
from lilliput.techniques import Option, QuantizeFeedback, QuantizeFloat16, QuantizeRound
from lilliput.tensor.allocation import Curve, curve, equal_slope

AIM = 0.997  # share of the storage limit aimed at, so that the coder's last bytes still fit
CLOSE = 0.985  # a file that uses this share of the limit is full
ATTEMPTS = 4
HALVINGS = 5


@dataclass(frozen=True)
class Trial:
    """What a plan turned out to cost, from its real files and on the search examples.

    Attributes:
        storage: Bytes of the packed file.
        installed: Bytes of the runnable file.
    """

    storage: int
    installed: int


class Evaluate(Protocol):
    """How the pipeline tries a plan; `plan` never looks ahead itself."""

    def sizes(self, plan: Plan) -> Trial:
        """Applies, exports and packs the plan; the real bytes."""
        ...

    def expected_drop(self, plan: Plan) -> float:
        """The drop's upper bound to be expected on the proof examples, from the search examples."""
        ...


@dataclass(frozen=True)
class Targets:
    """The limits in plain numbers.

    Attributes:
        storage: Bytes, or None.
        installed: Bytes, or None.
        drop: In the metric's unit, or None where there is nothing to measure it on.
    """

    storage: float | None
    installed: float | None
    drop: float | None


def plan(profile: Profile, targets: Targets, *, evaluate: Evaluate, seed: int = 0) -> Plan:
    """The least damage inside a storage limit, or the smallest file expected to be proved.

    Args:
        profile: Sites with statistics and sensitivity.
        targets: The limits.
        evaluate: Tries a plan end to end.
        seed: Written into the plan.

    Raises:
        UnreachableError: No strength of any technique fits; names the smallest reachable size.
    """
    choices = _Choices(profile, int8_only=False, seed=seed)
    if targets.storage is not None:
        chosen = _fill_storage(choices, targets.storage, evaluate)
    elif targets.drop is not None and profile.calibrated:
        chosen = _smallest_proved(choices, targets.drop, evaluate)
    else:
        chosen = _rounded(profile, seed)
    if targets.installed is None or evaluate.sizes(chosen).installed <= targets.installed:
        return chosen
    return _small_installed(profile, targets, evaluate, seed)


class _Choices:
    """The curves of all sites, and plans along them."""

    def __init__(self, profile: Profile, *, int8_only: bool, seed: int) -> None:
        self.profile = profile
        self.seed = seed
        technique = QuantizeFeedback()
        options = [technique.options(profile, name) for name in profile.sites]
        self.curves = [_curve(some, int8_only=int8_only) for some in options]
        self.fixed = [
            {k: v for k, v in some[0].settings.items() if k != "step"} for some in options
        ]

    def at(self, site_bytes: float) -> Plan:
        """Equal slopes with at most this many bytes in all sites together."""
        picks = equal_slope(self.curves, site_bytes)
        steps = [
            QuantizeFeedback(step=_rounded_step(curve, pick), **fixed).step_of((name,))
            for name, curve, pick, fixed in zip(
                self.profile.sites, self.curves, picks, self.fixed, strict=True
            )
        ]
        chosen = list(zip(self.curves, picks, strict=True))
        return Plan(
            model_hash=self.profile.model_hash,
            steps=(*steps, *_float_steps(self.profile)),
            predicted_damage=float(sum(curve.damage[i] for curve, i in chosen)),
            predicted_storage_bytes=round(sum(curve.bytes[i] for curve, i in chosen)),
            seed=self.seed,
        )

    @property
    def least(self) -> float:
        """Bytes of all sites at their coarsest."""
        return float(sum(curve.bytes[-1] for curve in self.curves))

    @property
    def most(self) -> float:
        """Bytes of all sites at their finest."""
        return float(sum(curve.bytes[0] for curve in self.curves))


def _curve(options: Sequence[Option], *, int8_only: bool) -> Curve:
    narrow = min(option.installed for option in options)
    kept = [o for o in options if not int8_only or o.installed == narrow]
    kept = kept if len(kept) > 1 else list(options[-2:])
    steps = np.array([option.settings["step"] for option in kept])
    damage = np.array([option.damage for option in kept])
    storage = np.array([option.storage for option in kept])
    return curve(steps, damage=damage, sizes=storage)


def _rounded_step(curve: Curve, pick: int) -> float:
    """Three significant digits: a plan is read by people."""
    return float(f"{np.exp(curve.log_steps[pick]):.3g}")


def _float_steps(profile: Profile) -> tuple[Step, ...]:
    others = [name for name in profile.parameters if name not in profile.sites]
    return (QuantizeFloat16().step_of(others),) if others else ()


def _rounded(profile: Profile, seed: int) -> Plan:
    """Plain int8 rounding: what is left when nothing can be measured."""
    steps = (QuantizeRound().step_of(tuple(profile.sites)), *_float_steps(profile))
    return Plan(model_hash=profile.model_hash, steps=steps, seed=seed)


def _fill_storage(choices: _Choices, limit: float, evaluate: Evaluate) -> Plan:
    """Uses the limit up: the first file tells what everything but the sites costs."""
    target = AIM * limit
    site_bytes = max(choices.least, target - _other_bytes(choices.profile))
    best, fullest = None, 0
    for _ in range(ATTEMPTS):
        tried = choices.at(site_bytes)
        storage = evaluate.sizes(tried).storage
        fits = storage <= limit
        if fits and storage > fullest:
            best, fullest = tried, storage
        full = fits and (storage >= CLOSE * limit or site_bytes >= choices.most)
        if full or (not fits and site_bytes <= choices.least):
            break
        site_bytes = float(np.clip(site_bytes + target - storage, choices.least, choices.most))
    if best is None:
        best = choices.at(choices.least)
        fullest = evaluate.sizes(best).storage
    if fullest > limit:
        raise UnreachableError(
            f"a packed file of {limit:,.0f} bytes is out of reach, the smallest is {fullest:,}",
            "ask for more storage; techniques that remove weights come on top of quantization",
        )
    return best.model_copy(update={"predicted_storage_bytes": fullest})


def _other_bytes(profile: Profile) -> float:
    """First guess of everything in the packed file that is no site: small floats and the graph."""
    others = [
        value.numel() for name, value in profile.parameters.items() if name not in profile.sites
    ]
    return 2.0 * sum(others) + 300.0 * len(profile.sites)


def _smallest_proved(choices: _Choices, drop: float, evaluate: Evaluate) -> Plan:
    """Halves the range of sizes, keeping the smallest whose drop is expected to be proved."""
    low, high = choices.least, min(choices.most, _int8_bytes(choices.profile))
    best = choices.at(high)
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        tried = choices.at(middle)
        if evaluate.expected_drop(tried) <= drop:
            best, high = tried, middle
        else:
            low = middle
    return best.model_copy(update={"predicted_storage_bytes": evaluate.sizes(best).storage})


def _int8_bytes(profile: Profile) -> float:
    return float(sum(known.site.size for known in profile.sites.values()))


def _small_installed(profile: Profile, targets: Targets, evaluate: Evaluate, seed: int) -> Plan:
    """Again with steps whose codes fit int8."""
    limit = float(targets.installed or 0)
    if targets.storage is not None:
        choices = _Choices(profile, int8_only=True, seed=seed)
        chosen = _fill_storage(choices, targets.storage, evaluate)
    else:
        chosen = _rounded(profile, seed)
    installed = evaluate.sizes(chosen).installed
    if installed > limit:
        raise UnreachableError(
            f"a runnable file of {limit:,.0f} bytes is out of reach, the smallest is {installed:,}",
            "the runnable file holds one byte per weight; the packed file is smaller",
        )
    return chosen
