"""The base of every technique's settings: frozen, validated when written, strict."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from lilliput.described import described_fields
from lilliput.model.encodings import Encoding
from lilliput.records import LimitName, Step

Family = Literal[
    "prune", "quantize", "factorize", "share", "narrow", "shorten", "replace", "grow", "learn"
]
STRUCTURAL: frozenset[Family] = frozenset(("narrow", "shorten", "replace", "grow"))
LEARNING: frozenset[Family] = frozenset(("learn",))


class Fields(BaseModel):
    """Keyword-only, frozen; a misspelt field is an error, and so is a value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: ClassVar[str]
    family: ClassVar[Family]
    source: ClassVar[str]
    summary: ClassVar[str]
    takes_any: ClassVar[bool] = False
    serves: ClassVar[frozenset[LimitName] | None] = None  # see `stages.option_table.SERVES`
    follows: ClassVar[tuple[type[Encoding], ...]] = ()

    @property
    def joint(self) -> bool:
        """Each site becomes what it becomes by itself."""
        return False

    @classmethod
    def described(cls) -> dict[str, Any]:
        """What `lilliput techniques` lists: fields with default, range or choices, and unit."""
        return {
            "name": cls.name,
            "family": cls.family,
            "summary": cls.summary,
            "source": cls.source,
            "fields": described_fields(cls),
        }

    def step_of(self, where: Sequence[str]) -> Step:
        """Itself as an entry of a plan: the fields that differ from their defaults."""
        return Step(
            technique=self.name,
            where=tuple(where),
            settings=self.model_dump(exclude_defaults=True),
        )
