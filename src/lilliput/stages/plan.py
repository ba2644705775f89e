"""Choose a technique and a strength for every site so that the limits hold with least damage."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lilliput.errors import UnreachableError
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.stages.fitting import fit
from lilliput.stages.mixing import Costs, Mixture, Targets, Trial, float_steps, other_bytes
from lilliput.stages.option_table import OptionTable
from lilliput.techniques import Option, QuantizeFeedback, QuantizeRound
from lilliput.tensor.allocation import Curve, curve, equal_slope

AIM = 0.997  # share of the storage limit aimed at, so that the coder's last bytes still fit
CLOSE = 0.985  # a file that uses this share of the limit is full
ATTEMPTS = 4
HALVINGS = 5


class Evaluate(Protocol):
    """How the pipeline tries a plan; `plan` never looks ahead itself."""

    def sizes(self, plan: Plan) -> Trial:
        """Applies, exports and packs the plan; the real bytes."""
        ...

    def expected_drop(self, plan: Plan) -> float:
        """The drop's upper bound to be expected on the proof examples, from the search examples."""
        ...

    def costs(self, plan: Plan) -> Trial:
        """The real bytes, and memory and latency where they are limited: measured on the file."""
        ...


def plan(
    profile: Profile,
    targets: Targets,
    *,
    evaluate: Evaluate,
    table: OptionTable | None = None,
    costs: Costs | None = None,
    seed: int = 0,
) -> Plan:
    """The least damage inside the limits, or the smallest file expected to be proved.

    Where only storage and drop are limited, one technique at equal slopes is best. Every other
    limit makes kinds of techniques compete, and then all are chosen in one program.

    Args:
        profile: Sites with statistics and sensitivity.
        targets: The limits.
        evaluate: Tries a plan end to end.
        table: Options that are known already, of the same profile.
        costs: What memory and latency options have; needed where one of these is limited.
        seed: Written into the plan.

    Raises:
        UnreachableError: No strength of any technique fits; names the binding limit and the
            nearest point that can be reached.
    """
    table = OptionTable(profile) if table is None else table
    if targets.mixed:
        return fit(Mixture.of(table, targets, costs=costs, seed=seed), evaluate)
    chosen = _one_technique(_Choices(table, seed=seed), targets, evaluate)
    if targets.installed is None or evaluate.sizes(chosen).installed <= targets.installed:
        return chosen
    return fit(Mixture.of(table, targets, seed=seed), evaluate)


def _one_technique(choices: "_Choices", targets: Targets, evaluate: Evaluate) -> Plan:
    if targets.storage is not None:
        return _fill_storage(choices, targets.storage, evaluate)
    if targets.drop is not None and choices.profile.calibrated:
        return _smallest_proved(choices, targets.drop, evaluate)
    return _rounded(choices.profile, choices.seed)


class _Choices:
    """The curves of all sites, and plans along them."""

    def __init__(self, table: OptionTable, *, seed: int) -> None:
        self.profile = table.profile
        self.seed = seed
        technique = QuantizeFeedback()
        options = [table.options(technique, name) for name in self.profile.sites]
        self.curves = [_curve(some) for some in options]
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
            steps=(*steps, *float_steps(self.profile)),
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


def _curve(options: Sequence[Option]) -> Curve:
    steps = np.array([option.settings["step"] for option in options])
    damage = np.array([option.damage for option in options])
    storage = np.array([option.storage for option in options])
    return curve(steps, damage=damage, sizes=storage)


def _rounded_step(curve: Curve, pick: int) -> float:
    """Three significant digits: a plan is read by people."""
    return float(f"{np.exp(curve.log_steps[pick]):.3g}")


def _rounded(profile: Profile, seed: int) -> Plan:
    """Plain int8 rounding: what is left when nothing can be measured."""
    steps = (QuantizeRound().step_of(tuple(profile.sites)), *float_steps(profile))
    return Plan(model_hash=profile.model_hash, steps=steps, seed=seed)


def _fill_storage(choices: _Choices, limit: float, evaluate: Evaluate) -> Plan:
    """Uses the limit up: the first file tells what everything but the sites costs."""
    target = AIM * limit
    site_bytes = max(choices.least, target - other_bytes(choices.profile))
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
