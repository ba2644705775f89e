"""Plans as TOML, both ways."""

import difflib
import json
import tomllib
from pathlib import Path

from pydantic import ValidationError

from lilliput.errors import PlanError
from lilliput.records import Plan, Step

_HEADER = "# What Lilliput did. Replay: lilliput apply plan.toml task.py\n"


def plan_to_toml(plan: Plan) -> str:
    """A plan as a TOML document that `plan_from_toml` reads back to an equal plan."""
    fields = plan.model_dump(exclude={"steps"}, exclude_none=True)
    lines = [f"{key} = {_value(value)}" for key, value in fields.items()]
    steps = [_step(step) for step in plan.steps] or ["steps = []"]
    return _HEADER + "\n".join([*lines, *steps]) + "\n"


def plan_from_toml(text: str) -> Plan:
    """Reads a plan.

    Raises:
        PlanError: It is no TOML, or a field is missing, unknown or of the wrong type; the message
            names the field.
    """
    try:
        return Plan.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"the plan is not valid TOML: {error}") from error
    except ValidationError as error:
        raise _complaint(error) from error


def read_plan(path: Path) -> Plan:
    """Reads a plan from a file.

    Raises:
        PlanError: The file cannot be read, or holds no plan.
    """
    try:
        return plan_from_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan {path}: {error}") from error


def _step(step: Step) -> str:
    lines = ["", "[[steps]]", f"technique = {_value(step.technique)}"]
    lines.append(f"where = [{', '.join(_value(name) for name in step.where)}]")
    if step.settings:
        lines += ["[steps.settings]"]
        lines += [f"{_key(name)} = {_value(value)}" for name, value in step.settings.items()]
    return "\n".join(lines)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _value(name)


def _value(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _complaint(error: ValidationError) -> PlanError:
    """The first thing wrong with a plan; a misspelt field also leaves another one missing."""
    every = error.errors()
    first = next((one for one in every if one["type"] == "extra_forbidden"), every[0])
    field = ".".join(str(part) for part in first["loc"]) or "the plan"
    known = (Step if len(first["loc"]) > 1 else Plan).model_fields
    fields = f"the fields are {', '.join(known)}"
    if first["type"] != "extra_forbidden":
        said = first["msg"].replace("valid tuple", "list")
        return PlanError(f"the plan's field {field!r} is wrong: {said}", fields)
    close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]}? {fields}" if close else fields
    return PlanError(f"the plan has an unknown field {field!r}", hint)
