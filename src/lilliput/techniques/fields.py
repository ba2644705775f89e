"""The base of every technique's settings: frozen, validated when written, strict."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from lilliput.records import Step


class Fields(BaseModel):
    """Keyword-only, frozen; a misspelt field is an error, and so is a value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: ClassVar[str]
    takes_any: ClassVar[bool] = False

    def step_of(self, where: Sequence[str]) -> Step:
        """Itself as an entry of a plan: the fields that differ from their defaults."""
        return Step(
            technique=self.name,
            where=tuple(where),
            settings=self.model_dump(exclude_defaults=True),
        )
