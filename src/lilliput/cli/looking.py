"""``lilliput inspect``, ``doctor``, ``techniques``, ``augmentations``: what is and can be done."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lilliput.cli.app import app
from lilliput.cli.options import Json
from lilliput.cli.screen import Screen


@app.command
def inspect(file: Path, /, *, as_json: Json = False) -> None:
    """Say what a file or folder is, and which command comes next.

    Args:
        file: Weights, ONNX, arrays, texts, a folder, anything; nothing in it is run.
    """
    from lilliput.sources import inspect_file

    screen = Screen(as_json=as_json)
    with screen.working():
        found = inspect_file(file)
    told = f"{found.kind}: {found.details}"
    screen.show(
        told + (f"\nnext: {found.next_command}" if found.next_command else ""), asdict(found)
    )


@app.command
def doctor(*, as_json: Json = False) -> None:
    """Say what this processor and its runtimes can do."""
    from lilliput.environment import diagnosis

    found = diagnosis()
    Screen(as_json=as_json).show("\n".join(_lines(found)), found)


@app.command
def techniques(*, as_json: Json = False) -> None:
    """List every technique with its fields: what a plan may name."""
    from lilliput.techniques import TABLE

    found = [kind.described() for kind in TABLE]
    Screen(as_json=as_json).show(_listed(found, "family"), {"techniques": found})


@app.command
def augmentations(*, as_json: Json = False) -> None:
    """List every augmentation with its fields: what a policy may name."""
    from lilliput.learning.augmenting.policy import AUGMENTATIONS

    found = [kind.described() for kind in AUGMENTATIONS]
    Screen(as_json=as_json).show(_listed(found, "form"), {"augmentations": found})


def _listed(found: list[dict[str, Any]], sort: str) -> str:
    """A line per entry, with its sort in brackets, one per field, and one for its source."""
    lines = []
    for entry in found:
        lines += [f"{entry['name']} ({entry[sort]}): {entry['summary']}"]
        lines += [f"  {name} = {_field(field)}" for name, field in entry["fields"].items()]
        lines += [f"  source: {entry['source']}"]
    return "\n".join(lines)


def _field(field: dict[str, Any]) -> str:
    """A field's default, what it may be, and its unit."""
    default = field["default"]
    told = str(default).lower() if isinstance(default, bool) else str(default)
    if "choices" in field:
        told += f", one of {', '.join(map(str, field['choices']))}"
    elif "range" in field:
        told += f", {field['range']}"
    return told + (f" {field['unit']}" if "unit" in field else "")


def _lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for title, part in found.items():
        entries = part.items() if isinstance(part, dict) else [("", line) for line in part]
        told = [f"  {name}: {_word(value)}" if name else f"  {value}" for name, value in entries]
        lines += [title.replace("_", " "), *(told or ["  nothing to say"])]
    return lines


def _word(value: object) -> str:
    words = {True: "yes", False: "no", None: "not installed"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
