"""Frozen values that users write: what their fields may be, in words, and what is refused."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lilliput.errors import LilliputError

Value = TypeVar("Value", bound=BaseModel)


def described_fields(kind: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """Each field of a value with its default, range or choices, and unit."""
    fields = kind.model_json_schema()["properties"] if kind.model_fields else {}
    return {name: _described(kind.model_fields[name].default, fields[name]) for name in fields}


def advice(kind: type[BaseModel], field: str, *, given: object) -> str:
    """What a field may be, and the nearest to what was given where there is one."""
    told = described_fields(kind)[field]
    if "choices" in told:
        return f"allowed is one of {', '.join(map(str, told['choices']))}{_close(told, given)}"
    if told["type"] == "bool":
        return "allowed is true or false"
    if told["type"] == "str":
        return f"allowed is text, such as {told['default']}"
    kind_told = "a whole number" if told["type"] == "int" else "a number"
    return f"allowed is {kind_told} in {told['range']}{_inside(told, given)}"


def checked(
    kind: type[Value],
    name: str,
    *,
    settings: Mapping[str, Any],
    refused: type[LilliputError],
) -> Value:
    """A value with the fields that a user wrote.

    Args:
        kind: Of the value.
        name: How users know it.
        settings: Fields by their names.
        refused: What is raised where a field is unknown or out of range; says what is allowed.
    """
    unknown = sorted(set(settings) - set(kind.model_fields))
    if unknown:
        raise refused(
            f"{name} has no field {unknown[0]!r}",
            f"{nearest(unknown[0], kind.model_fields)}"
            f"its fields are {', '.join(sorted(kind.model_fields)) or 'none'}",
        )
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        field, given = str(first["loc"][0]), first["input"]
        raise refused(
            f"{name}: {field} = {given!r}: {first['msg']}", advice(kind, field, given=given)
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean x? `` where a known name is spelt nearly like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""


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
    elif not isinstance(default, bool | str):
        low = "(" if "exclusiveMinimum" in schema else "["
        high = ")" if "exclusiveMaximum" in schema else "]"
        least = schema.get("exclusiveMinimum", schema.get("minimum"))
        most = schema.get("exclusiveMaximum", schema.get("maximum"))
        found["range"] = f"{low}{least}, {most}{high}"
    if "unit" in schema:
        found["unit"] = schema["unit"]
    return found
