"""What every technique offers to the planner."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.records import Step
from lilliput.techniques.fields import Family


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
    joint: ClassVar[bool]  # what becomes of a site depends on the others named with it
    follows: ClassVar[tuple[type[Encoding], ...]]  # what an earlier step may have made

    def options(self, profile: Profile, where: str) -> tuple[Option, ...]:
        """Strengths at which it could be applied to one site, mildest first."""
        ...

    def apply(
        self, profile: Profile, where: Sequence[str], *, made: Made = NOTHING
    ) -> dict[str, Encoding]:
        """What the named parameters become. Changes nothing it is given.

        `made` is what earlier steps of the plan made of them, of a kind named in `follows`: what
        those removed stays removed, and the weights that are left make up for all of it.
        """
        ...

    def step_of(self, where: Sequence[str]) -> Step:
        """Itself as an entry of a plan."""
        ...
