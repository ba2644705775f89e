"""What every technique offers to the planner."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from lilliput.model.encodings import Encoding
from lilliput.model.profiles import Profile
from lilliput.records import Step

Family = Literal[
    "prune", "quantize", "factorize", "share", "narrow", "shorten", "replace", "grow", "learn"
]


@dataclass(frozen=True)
class Option:
    """One strength at which a technique could be applied to one site, and what that would cost.

    Attributes:
        settings: Fields of the technique that differ from its defaults.
        damage: Predicted, in the currency (divergence of the model's output).
        storage: Predicted bytes in the packed file.
        installed: Predicted bytes in the runnable file.
    """

    settings: dict[str, float]
    damage: float
    storage: float
    installed: int


class Technique(Protocol):
    """A frozen value: what to do and how strongly."""

    name: ClassVar[str]
    family: ClassVar[Family]
    source: ClassVar[str]
    summary: ClassVar[str]
    takes_any: ClassVar[bool]  # also parameters that are no sites

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Strengths at which it could be applied to one site, mildest first."""
        ...

    def apply(self, profile: Profile, where: Sequence[str]) -> dict[str, Encoding]:
        """What the named parameters become. Changes nothing it is given."""
        ...

    def step_of(self, where: Sequence[str]) -> Step:
        """Itself as an entry of a plan."""
        ...
