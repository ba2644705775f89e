"""The base of every technique's settings: frozen, validated when written, strict."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

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
        fields = cls.model_json_schema()["properties"] if cls.model_fields else {}
        return {
            "name": cls.name,
            "family": cls.family,
            "summary": cls.summary,
            "source": cls.source,
            "fields": {
                name: _described(cls.model_fields[name].default, fields[name]) for name in fields
            },
        }

    @classmethod
    def advice(cls, field: str, given: object) -> str:
        """What a field may be, and the nearest to what was given where there is one."""
        told = cls.described()["fields"][field]
        if "choices" in told:
            return f"allowed is one of {', '.join(map(str, told['choices']))}{_close(told, given)}"
        if told["type"] == "bool":
            return "allowed is true or false"
        kind = "a whole number" if told["type"] == "int" else "a number"
        return f"allowed is {kind} in {told['range']}{_inside(told, given)}"

    def step_of(self, where: Sequence[str]) -> Step:
        """Itself as an entry of a plan: the fields that differ from their defaults."""
        return Step(
            technique=self.name,
            where=tuple(where),
            settings=self.model_dump(exclude_defaults=True),
        )


def _close(told: Mapping[str, Any], given: object) -> str:
    """The choice that is nearest: the next number, or the word spelt most like it."""
    choices = told["choices"]
    if _is_number(given) and all(map(_is_number, choices)):
        return f", the nearest is {min(choices, key=lambda choice: abs(choice - given))}"
    close = difflib.get_close_matches(str(given), [str(choice) for choice in choices], n=1)
    return f", the nearest is {close[0]}" if close else ""


def _inside(told: Mapping[str, Any], given: object) -> str:
    """The number in the range that is nearest; nothing where the range has no last one."""
    if not isinstance(given, int | float) or not _is_number(given):
        return ""
    ends = told["range"]
    least, most = (float(end) for end in ends[1:-1].split(", "))
    if (given <= least and ends[0] == "(") or (given >= most and ends[-1] == ")"):
        return ""
    near = min(max(given, least), most)
    return f", the nearest is {round(near) if told['type'] == 'int' else near:g}"


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and given == given


def _described(default: object, schema: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"default": default, "type": type(default).__name__}
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if choices:
        found["choices"] = choices
    elif not isinstance(default, bool):
        low = "(" if "exclusiveMinimum" in schema else "["
        high = ")" if "exclusiveMaximum" in schema else "]"
        least = schema.get("exclusiveMinimum", schema.get("minimum"))
        most = schema.get("exclusiveMaximum", schema.get("maximum"))
        found["range"] = f"{low}{least}, {most}{high}"
    if "unit" in schema:
        found["unit"] = schema["unit"]
    return found
