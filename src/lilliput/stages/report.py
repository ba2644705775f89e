"""Everything that was measured and judged, written as `report.json` and `report.html`."""

import json
import os
import secrets
from pathlib import Path

from pydantic import ValidationError

from lilliput.errors import InputError, InternalError, OutputError
from lilliput.records import Report
from lilliput.stages.report_page.page import render_page

JSON_NAME = "report.json"
PAGE_NAME = "report.html"
_LARGEST_JSON = 256_000_000


def report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write `report.json` and `report.html` into `folder`, both or neither.

    The same report gives the same bytes: keys are sorted, nothing holds a date. Infinite and NaN
    numbers become ``null``.

    Args:
        report: What was measured and judged.
        folder: An existing folder, or one that can be made.

    Returns:
        The paths of the JSON file and of the page.

    Raises:
        OutputError: If the folder cannot be written to or the disk is full.
        InternalError: If the report would not survive being read back: a bug of ours.
    """
    text = report_text(report)
    try:
        restored = Report.model_validate_json(text)
    except ValidationError as error:
        raise InternalError(
            f"the report cannot be read back: {_first(error)}", "please report this as a bug"
        ) from error
    contents = {folder / JSON_NAME: text, folder / PAGE_NAME: render_page(restored)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace_all(contents)
    except OSError as error:
        raise OutputError(
            f"cannot write the report to {folder}: {error.strerror or error}",
            "check free space and permissions",
        ) from error
    return folder / JSON_NAME, folder / PAGE_NAME


def report_text(report: Report) -> str:
    """The content of `report.json`: sorted keys, two spaces, one line feed at the end."""
    data = json.loads(report.model_dump_json(by_alias=True))
    return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(path: Path) -> Report:
    """Read a `report.json`, or the one inside a folder, and check every field.

    Raises:
        InputError: If there is none, or it is damaged, too large, or of another version.
    """
    file = path / JSON_NAME if path.is_dir() else path
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise InputError(f"{file} is larger than a report can be", "is it another file?")
        text = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {file}", "name the folder that `lilliput compress --out` wrote"
        ) from error
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror or error}", "is it an output folder?"
        ) from error
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise InputError(
            f"{file} is not a report of this version: {_first(error)}",
            "write it again with `lilliput compress`",
        ) from error


def report_schema() -> str:
    """The JSON schema of `report.json`, as committed in `docs/report.schema.json`."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, sort_keys=True, indent=2) + "\n"


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _replace_all(contents: dict[Path, str]) -> None:
    """Write every file beside its place first, then rename all into place."""
    token = secrets.token_hex(4)
    written = {path: path.with_name(f".{path.name}.{token}") for path in contents}
    try:
        for path, text in contents.items():
            with written[path].open("xb") as stream:
                stream.write(text.encode("utf-8"))
                stream.flush()
                os.fsync(stream.fileno())
        for path, temporary in written.items():
            temporary.replace(path)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
