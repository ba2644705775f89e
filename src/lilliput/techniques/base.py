"""What every technique offers: to the planner, and to whoever changes a model's shape."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import nn

from lilliput.model.encodings import NOTHING, Encoding, Made
from lilliput.model.profiles import Profile
from lilliput.records import LimitName, Step
from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques.fields import Family


@dataclass(frozen=True)
class Option:
    """One strength at which a technique could be applied to one site, and what that would cost.

    Attributes:
        settings: Fields of the technique that differ from its defaults.
        damage: Predicted, in the currency (divergence of the model's output).
        storage: Predicted bytes in the packed file.
        installed: Predicted bytes in the runnable file.
        work: Multiply-adds, as a share of the site's own.
        memory: Predicted bytes resident while it runs; None until the planner's cost model has
            filled it in.
        latency: Predicted milliseconds of one call; likewise.
        kernel: What the runtime does otherwise than for the technique's other options of the same
            width, in a word, so that it is priced apart; empty: nothing.
    """

    settings: dict[str, Any]
    damage: float
    storage: float
    installed: int
    work: float = 1.0
    memory: float | None = None
    latency: float | None = None
    kernel: str = ""


class Technique(Protocol):
    """A frozen value: what to do and how strongly."""

    name: ClassVar[str]
    family: ClassVar[Family]
    source: ClassVar[str]
    summary: ClassVar[str]
    takes_any: ClassVar[bool]  # also parameters that are no sites
    serves: ClassVar[
        frozenset[LimitName] | None
    ]  # limits it is a candidate for; None: its family's
    follows: ClassVar[tuple[type[Encoding], ...]]  # what an earlier step may have made

    @property
    def joint(self) -> bool:
        """Whether what becomes of a site depends on the others named with it.

        Only then may `apply` ask for sensitivities: they say what sites are worth against each
        other, and a plan without such a step is replayed without probing for them.
        """
        ...

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


class Structural(Protocol):
    """A frozen value that changes a model's shape: its family is one of `fields.STRUCTURAL`."""

    name: ClassVar[str]
    family: ClassVar[Family]
    source: ClassVar[str]
    summary: ClassVar[str]

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A changed copy with its proof; the model given is left as it was.

        Args:
            model: Any module that can be captured.
            inputs: One example batch: tensor, tuple or mapping.
            where: Names of widths or blocks; none: all that are free.
            batches: Calibration inputs; by default `inputs` alone.

        Raises:
            CaptureError: The model cannot be captured.
            ShapeError: What `where` names does not exist or cannot change, or the change could not
                be proved.
            TaskError: There are no calibration inputs, or the model does not run on them.
        """
        ...

    def step_of(self, where: Sequence[str]) -> Step:
        """Itself as an entry of a plan."""
        ...
