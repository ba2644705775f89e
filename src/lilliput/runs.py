"""What one run knows before the first verb: the task checked, captured, exported and forecast."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from lilliput.batches import at_most
from lilliput.budget import Budget, Limit, resolve_drop
from lilliput.errors import CaptureError, InputError, InternalError, TaskError
from lilliput.forms import FixedForm, Form, GraphForm, WeightsForm
from lilliput.learning.recovery import Recover
from lilliput.ledger import Ledger
from lilliput.metrics import Metric
from lilliput.model.capture import Capture, capture, capture_or_hooks
from lilliput.model.hashes import state_hash
from lilliput.progress import Progress, unseen
from lilliput.records import Step
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_encode import Arithmetic
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.onnx_inventory import bind_onnx, capture_onnx
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.splits import Split
from lilliput.stages.corrupted import corruptions_of
from lilliput.stages.measure import Conditions
from lilliput.stages.mixing import Targets
from lilliput.task import Task
from lilliput.validation import check_task

LEDGER = "lilliput-looks.json"
SEEDS = 2**32
PRICED = ("memory", "latency")
SIZES = ("storage", "installed")
RECOVERED_ROW = 1.5  # bytes that a learned step costs more than a planned one
MOVED_CODES = 0.02  # share of a file that codes may grow by when they learn
MOST_RESERVED = 0.1
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything about a run that is neither the task nor the budget.

    Attributes:
        seed: Of everything random, 0 to 2^32 - 1; same seed, same bytes.
        part: Compress only this submodule (qualified name); empty for the whole model.
        arithmetic: ``float32``, ``int8`` (weights on any grid stay integers in memory),
            ``fixed`` (integers only), or None: int8 where memory is limited. Steps whose inputs are
            rounded compute on integers under each.
        conditions: How the artifact is measured.
        ledger: File that counts looks at proof sets; None means beside the output folder.
        force: Replace an output folder of ours.
        command: What repeats this run, for the report.
        source_bytes: Size of the checkpoint the user came with, where there is one.
        recover: Train the compressed model under its constraints; None: not.
        said: Told every line worth telling: the forecast, warnings.
        progress: Told stage, steps done, steps in all.

    Raises:
        InputError: The seed is out of range.
    """

    seed: int = 0
    part: str = ""
    arithmetic: Arithmetic | None = None
    conditions: Conditions = field(default_factory=Conditions)
    ledger: Path | None = None
    force: bool = False
    command: str = ""
    source_bytes: int | None = None
    recover: Recover | None = None
    said: Callable[[str], None] = lambda line: None
    progress: Progress = unseen

    def __post_init__(self) -> None:
        if not 0 <= self.seed < SEEDS:
            raise InputError(
                f"seed {self.seed} is out of range",
                f"allowed is 0 to {SEEDS - 1}, the nearest is {min(max(self.seed, 0), SEEDS - 1)}",
            )


@dataclass(frozen=True)
class Run:
    """One run on one task.

    Attributes:
        task: What must keep working.
        budget: The limits.
        settings: Everything else.
        metric: The task's metric; None without examples.
        split: Calibration, search and proof.
        captured: The graph and sites of the model whose weights change.
        form: How encodings become files.
        notes: What the reader should know about the way the model was captured.
        before: Hash of the user's model when the run began.
        seconds: How long each stage took.
        reshaped: The task over a copy of the model in another shape, whose weights are changed in
            the place of the user's; None where the model keeps its shape.
        shaping: The steps of the plan that gave it that shape.
    """

    task: Task
    budget: Budget
    settings: Settings
    metric: Metric | None
    split: Split
    captured: Capture
    form: Form
    before: str
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    reshaped: Task | None = None
    shaping: tuple[Step, ...] = ()

    @property
    def subject(self) -> Task:
        """The task over the model whose weights change."""
        return self.reshaped or self.task

    @property
    def original(self) -> Path:
        """The original in the artifact's form: the baseline."""
        return self.form.original

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits asked for."""
        return self.budget.limits

    @property
    def targets(self) -> Targets:
        """The limits in plain numbers, sizes against the original's export, for plans.

        What recovery may add to a plan's files is left free.
        """
        size = self.original.stat().st_size
        sizes = {
            limit.name: limit.resolve(size) - self.reserve(limit.resolve(size))
            for limit in self.limits
            if limit.name in SIZES
        }
        return Targets(
            storage=sizes.get("storage"),
            installed=sizes.get("installed"),
            drop=self.allowed_drop[0] if self.allowed_drop else None,
        )

    def reserve(self, limit: float) -> float:
        """Bytes of a limit on size that are left to recovery: learned steps are longer numbers."""
        recover = self.settings.recover
        if recover is None:
            return 0.0
        rows = sum(site.rows for site in self.captured.sites.values())
        moved = MOVED_CODES * limit if recover.strength == "full" else 0.0
        return min(RECOVERED_ROW * rows + moved, MOST_RESERVED * limit)

    @property
    def priced_limits(self) -> tuple[Limit, ...]:
        """Limits that only files which were run can tell; none where PyTorch runs the weights."""
        steer = isinstance(self.form, GraphForm)
        return tuple(limit for limit in self.limits if steer and limit.name in PRICED)

    def priced(self, memory: float, latency: float) -> Targets:
        """The targets with memory and latency, given the original's bytes and milliseconds."""
        original = {"memory": memory, "latency": latency}
        found = {limit.name: limit.resolve(original[limit.name]) for limit in self.priced_limits}
        return replace(self.targets, memory=found.get("memory"), latency=found.get("latency"))

    @property
    def allowed_drop(self) -> tuple[float, bool] | None:
        """The allowed drop and whether it is relative; None where none is limited or measured."""
        drop = next((limit for limit in self.limits if limit.name == "drop"), None)
        if drop is None or self.metric is None:
            return None
        return resolve_drop(drop, self.metric, 1.0)

    def clock(self, stage: str, work: Callable[[], T]) -> T:
        """Does the work and remembers how long it took."""
        started = time.perf_counter()
        result = work()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - started, 3)
        return result

    def ledger(self, out: Path) -> Ledger:
        """The ledger of looks at proof sets."""
        return Ledger(self.settings.ledger or out.resolve().parent / LEDGER)

    def check_untouched(self) -> None:
        """The promise that the user's model is never modified.

        Raises:
            InternalError: It was.
        """
        if state_hash(self.task.model) != self.before:
            raise InternalError("the user's model was modified", "please report this as a bug")


def prepare(task: Task, budget: Budget, settings: Settings, scratch: Path) -> Run:
    """Checks the task, captures the model and exports the original once.

    Args:
        task: What must keep working.
        budget: The limits.
        settings: Everything else.
        scratch: Where the original's export is kept for the length of the run.

    Raises:
        TaskError: See `lilliput.validation.check_task`; or latency is to be measured with more
            examples at once than the model takes; or the inputs cannot be corrupted as asked.
        CaptureError: The part asked for, or a model for the runtime asked for, cannot be captured.
    """
    started = time.perf_counter()
    before = state_hash(task.model)
    settings.progress("check the task", 0, 3)
    metric = check_task(task)
    _check_batch(task, settings)
    corruptions_of(task, settings.conditions.generalize)
    split = task.split(settings.seed) if len(task) else Split((), (), ())
    captured, form, notes = _captured(task, budget, settings, scratch)
    if settings.arithmetic == "fixed":
        form = FixedForm.of(form, task, calibration=split.calibration, scratch=scratch)
    seconds = {"prepare": round(time.perf_counter() - started, 3)}
    return Run(task, budget, settings, metric, split, captured, form, before, notes, seconds)


def _check_batch(task: Task, settings: Settings) -> None:
    wanted = settings.conditions.batch
    most = at_most(task.collate, wanted)
    if most < wanted:
        raise TaskError(f"the model takes {most} example(s) at once, so not a batch of {wanted}")


def _captured(
    task: Task, budget: Budget, settings: Settings, scratch: Path
) -> tuple[Capture, Form, tuple[str, ...]]:
    """The model as a graph where that is possible, else as weights that PyTorch runs."""
    if isinstance(task.model, OnnxModule):
        return _onnx(task, task.model, budget, settings, scratch)
    try:
        return captured_graph(task, budget, settings, scratch=scratch)
    except CaptureError as error:
        _check_needs_no_graph(settings, error)
        reason = error.message
    captured = capture_or_hooks(task.model, task.sample(2), dynamic=task.varying())
    note = (
        f"{reason}; the artifact is packed weights that PyTorch runs in your own class, "
        "not an ONNX file"
    )
    form = WeightsForm.of(task.model, scratch / "original.onnx")
    return captured, form, tuple(dict.fromkeys((note, *captured.warnings)))


def _check_needs_no_graph(settings: Settings, error: CaptureError) -> None:
    """Whether all that was asked for can be had where PyTorch runs the weights.

    Raises:
        CaptureError: Something cannot; the hint names it.
    """
    needed = {
        "part": settings.part,
        "runtime": settings.conditions.runtime,
        "arithmetic": settings.arithmetic or "float32",
    }
    can = {"part": "", "runtime": Conditions.runtime, "arithmetic": "float32"}
    for name, value in needed.items():
        if value != can[name]:
            hint = f"leave {name} {value} out, which needs the graph: PyTorch then runs the weights"
            raise CaptureError(error.message, hint) from error


def captured_graph(
    task: Task, budget: Budget, settings: Settings, *, scratch: Path
) -> tuple[Capture, GraphForm, tuple[str, ...]]:
    """The model's graph, and its export in a folder.

    Raises:
        CaptureError: It cannot be captured or exported.
    """
    dynamic = task.varying()
    settings.progress("capture the model", 1, 3)
    captured = capture(task.model, task.sample(2), dynamic=dynamic, part=settings.part)
    settings.progress("export the original", 2, 3)
    exported = export_original(
        task.model,
        task.sample(2),
        scratch / "original.onnx",
        dynamic={place: dims for place, dims in enumerate(dynamic) if dims},
    )
    state = {name: value.detach() for name, value in task.model.named_parameters()}
    bindings = bind(exported, captured.sites, state)
    form = GraphForm(bindings, captured.sites, task.model, _arithmetic(budget, settings))
    return captured, form, captured.warnings


def _onnx(
    task: Task, module: OnnxModule, budget: Budget, settings: Settings, scratch: Path
) -> tuple[Capture, Form, tuple[str, ...]]:
    """An ONNX file is its own graph; what it was before the edits is the baseline."""
    if settings.part:
        raise CaptureError("an ONNX file has no parts", "leave part out")
    settings.progress("read the graph", 1, 3)
    captured = capture_onnx(module, task.sample(1))
    bindings = bind_onnx(module, scratch / "simplified.onnx")
    arithmetic = _arithmetic(budget, settings)
    baseline = module.baseline_in(scratch)
    form = GraphForm(bindings, captured.sites, module, arithmetic, baseline, weights=False)
    return captured, form, captured.warnings


def _arithmetic(budget: Budget, settings: Settings) -> Arithmetic:
    """Integer kernels where memory is limited: they keep a quarter of it.

    For latency they are chosen site by site: `quantize_static` and `quantize_dynamic` know what
    rounding the activations costs.
    """
    if settings.arithmetic is not None:
        return settings.arithmetic
    return "int8" if budget.limit("memory") is not None else "float32"
