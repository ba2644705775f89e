"""Options that several commands share, each said once: its name, its help, its way to the library.

What is not given stays None here: the defaults are those of the library.
"""

from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from lilliput.errors import InputError

if TYPE_CHECKING:
    from lilliput.budget import Budget
    from lilliput.runs import Settings
    from lilliput.sources import TaskArguments
    from lilliput.stages.measure import Conditions
    from lilliput.task import Task

TASK = Group("Task", sort_key=1)
LIMITS = Group("Limits", sort_key=2)
RUN = Group("Run", sort_key=3)
MEASURING = Group("Measuring", sort_key=4)
OUTPUT = Group("Output", sort_key=5)

Flag = Parameter(negative=(), show_default=False)
Json = Annotated[
    bool,
    Parameter(
        name="--json",
        negative=(),
        group=OUTPUT,
        show_default=False,
        help="Print one JSON document.",
    ),
]
MaxBytes = Annotated[
    str | None, Parameter(help="The packed file may not unpack to more, e.g. 4GB.", group=OUTPUT)
]
Sweep = Annotated[
    str | None,
    Parameter(
        help="Storage limits to compare in one report, e.g. 6%,9%,12%; the other limits choose "
        "which of them is shipped.",
        group=LIMITS,
    ),
]
# A negative number is a value to be refused by name, not an unknown option.
Amount = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


@Parameter(name="*", group=TASK)
@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What describes a task without a task file."""

    texts: str | None = None
    """File of texts, one a line, for a Hugging Face folder; "text<TAB>label" where labelled."""
    images: str | None = None
    """Folder of images; a sub-folder is a label."""
    data: str | None = None
    """Arrays (.npz) named inputs, or by the names of an ONNX file's inputs; and targets, if any."""
    weights: str | None = None
    """File of weights (.pt, .safetensors) for FILE.py:NAME; nothing is unpickled."""
    metric: str | None = None
    """Name of a metric, or FILE.py:NAME; else accuracy with labels, agreement without."""
    shape: str | None = None
    """Without any data, the shape of one input: 3x224x224, int64:16."""
    size: int | None = None
    """Side of the images in pixels."""
    mean: Amount = None
    """Mean of the images: one number, or one per channel, e.g. 0.485,0.456,0.406."""
    std: Amount = None
    """Standard deviation of the images, likewise."""
    max_length: int | None = None
    """Most tokens of a text."""

    def arguments(self, target: str) -> "TaskArguments":
        """These options and the target, as the library takes them."""
        from lilliput.sources import TaskArguments

        given = {field.name: getattr(self, field.name) for field in fields(TaskOptions)}
        for name in ("mean", "std"):
            if given[name] is not None:
                given[name] = _numbers(name, given[name])
        return TaskArguments(target=target, **given)

    def task(self, target: str) -> "Task":
        """The task they describe."""
        if Path(target).suffix.lower() == ".onnx":
            from lilliput.onnxtask import onnx_task_from_arguments

            return onnx_task_from_arguments(self.arguments(target))
        from lilliput.sources import task_from_arguments

        return task_from_arguments(self.arguments(target))

    def task_to_verify(self, target: str) -> tuple["Task", bool]:
        """The task they describe, and whether all its examples are new to it."""
        if Path(target).suffix.lower() == ".onnx":
            return self.task(target), False
        from lilliput.sources import task_to_verify

        return task_to_verify(self.arguments(target))


@Parameter(name="*", group=LIMITS)
@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What may remain. Without any: the smallest file with a drop of at most 1 %."""

    storage: Amount = None
    """Size of the packed file, the download: 9%, 4MB."""
    installed: Amount = None
    """Size of the runnable file: 30%, 20MB."""
    memory: Amount = None
    """Memory while it runs, above the runtime's own: 50%, 100MB."""
    latency: Amount = None
    """Time of one call: 50%, 5ms."""
    energy: Amount = None
    """Energy of one call: 50%, 3J."""
    drop: Amount = None
    """How much worse the score may get: 1%, or a plain number in the metric's unit."""

    def budget(self) -> "Budget":
        """The budget they ask for."""
        from lilliput.budget import Budget

        return Budget(**asdict(self))


@Parameter(name="*", group=MEASURING)
@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """Under what conditions is measured."""

    threads: int | None = None
    """Threads inside one operator; all physical cores where not given."""
    batch: int | None = None
    """Examples per call for latency and memory."""
    runtime: Literal["onnxruntime", "openvino"] | None = None
    """What opens the artifact where score, latency and memory count; ONNX Runtime by itself."""
    generalize: str | None = None
    """Corrupted inputs to report on: none, or e.g. "noise, rotate"; by itself by the inputs."""

    def conditions(self) -> "Conditions":
        """The conditions they ask for."""
        from lilliput.stages.measure import Conditions

        for name, value in _given(self).items():
            if isinstance(value, int) and value < 1:
                raise InputError(f"--{name} {value} is too few", "at least 1")
        return Conditions(**_given(self))


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Everything about a run that is neither the task nor a limit."""

    seed: int | None = None
    """Seed of everything random, the split of the examples included."""
    part: str | None = None
    """Compress only this submodule, by its qualified name."""

    def settings(self, **others: Any) -> "Settings":
        """The settings they ask for; `others` are further fields."""
        return _settings(self, others)


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class BuildOptions(RunOptions):
    """What matters only where files are written and measured."""

    arithmetic: Literal["float32", "int8", "fixed"] | None = None
    """int8: least memory (for speed limit latency instead); fixed: integers only."""
    recover: str | None = None
    """Train the compressed model under its constraints: minutes=10,strength=light or full."""
    measuring: MeasureOptions = MeasureOptions()

    def settings(self, **others: Any) -> "Settings":
        """The settings they ask for, recovery read from its short form."""
        if self.recover is None:
            return _settings(self, others)
        from lilliput.learning.recovery import Recover

        return _settings(
            replace(self, recover=None), others | {"recover": Recover.parse(self.recover)}
        )


@Parameter(name="*", group=RUN)
@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """The same for a plan, which knows its seed."""

    part: str | None = None
    """Compress only this submodule, by its qualified name."""
    arithmetic: Literal["float32", "int8", "fixed"] | None = None
    """int8: least memory (for speed limit latency instead); fixed: integers only."""
    measuring: MeasureOptions = MeasureOptions()

    def settings(self, **others: Any) -> "Settings":
        """The settings they ask for; `others` are further fields."""
        return _settings(self, others)


@Parameter(name="*", group=OUTPUT)
@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Where the files and the verdict go."""

    out: Path
    """Folder for the files and the report; it may not exist yet."""
    force: Annotated[bool, Flag] = False
    """Replace an output folder that Lilliput wrote."""
    as_json: Json = False


@Parameter(name="*", group=TASK)
@dataclass(frozen=True, kw_only=True)
class NewTaskOptions(TaskOptions):
    """A task whose examples may be new."""

    fresh: Annotated[bool, Flag] = False
    """The examples are new: all of them prove."""


NO_TASK = TaskOptions()
NO_LIMITS = LimitOptions()
NO_MEASURING = MeasureOptions()
NO_NEW_TASK = NewTaskOptions()
NO_RUN = RunOptions()
NO_BUILD = BuildOptions()
NO_REPLAY = ReplayOptions()


def ledger_beside(target: str) -> Path | None:
    """The ledger of looks beside a task file; None leaves it beside the output folder."""
    from lilliput.runs import LEDGER

    file = Path(target)
    return file.resolve().parent / LEDGER if file.suffix == ".py" else None


def amounts(sweep: str | None) -> tuple[str, ...]:
    """The storage limits of a sweep.

    Raises:
        InputError: One is empty.
    """
    if sweep is None:
        return ()
    parts = tuple(part.strip() for part in sweep.split(","))
    if not all(parts):
        raise InputError(f"--sweep {sweep!r} has an empty limit", "e.g. --sweep 6%,9%,12%")
    return parts


def size_in_bytes(option: str, text: str) -> int:
    """A number of bytes as users write it.

    Raises:
        InputError: It is none.
    """
    from lilliput.budget import parse_limit
    from lilliput.errors import BudgetError

    try:
        limit = parse_limit("storage", text)
    except BudgetError as error:
        raise InputError(f"{option} {text!r} is not a size", "e.g. 4GB or 4000000") from error
    if limit.unit != "bytes":
        raise InputError(f"{option} {text!r} is not a size", "e.g. 4GB or 4000000")
    return int(limit.amount)


def _settings(options: Any, others: dict[str, Any]) -> "Settings":
    from lilliput.runs import Settings

    return Settings(**_given(options), **others)


def _given(options: Any) -> dict[str, Any]:
    """The options that were given, groups within the group left out."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {n: v for n, v in values.items() if v is not None and not is_dataclass(v)}


def _numbers(name: str, text: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--{name} {text!r} is not a number", "one, or one per channel: 0.485,0.456,0.406"
        ) from error
    return numbers if len(numbers) > 1 else numbers[0]
