"""What one run knows before the first verb: the task checked, captured, exported and forecast."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from lilliput.budget import Budget, Limit, resolve_drop
from lilliput.errors import InternalError
from lilliput.ledger import Ledger
from lilliput.metrics import Metric
from lilliput.model.capture import Capture, capture
from lilliput.model.hashes import state_hash
from lilliput.model.profiles import Folding
from lilliput.runtime.onnx_bind import Bindings, bind
from lilliput.runtime.onnx_encode import Arithmetic
from lilliput.runtime.onnx_export import export_original
from lilliput.stages.measure import Conditions
from lilliput.stages.plan import Targets
from lilliput.task import Split, Task
from lilliput.validation import check_task

LEDGER = "lilliput-looks.json"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything about a run that is neither the task nor the budget.

    Attributes:
        seed: Of everything random; same seed, same bytes.
        part: Compress only this submodule (qualified name); empty for the whole model.
        arithmetic: ``float32``, ``int8``, or None: int8 where memory or latency is limited.
        conditions: How the artifact is measured.
        ledger: File that counts looks at proof sets; None means beside the output folder.
        force: Replace an output folder of ours.
        command: What repeats this run, for the report.
        source_bytes: Size of the checkpoint the user came with, where there is one.
        said: Told every line worth telling: the forecast, warnings.
        progress: Told stage, steps done, steps in all.
    """

    seed: int = 0
    part: str = ""
    arithmetic: Arithmetic | None = None
    conditions: Conditions = field(default_factory=Conditions)
    ledger: Path | None = None
    force: bool = False
    command: str = ""
    source_bytes: int | None = None
    said: Callable[[str], None] = lambda line: None
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None


@dataclass(frozen=True)
class Run:
    """One run on one task.

    Attributes:
        task: What must keep working.
        budget: The limits.
        settings: Everything else.
        metric: The task's metric; None without examples.
        split: Calibration, search and proof.
        captured: The model's graph and sites.
        bindings: Where the weights lie in the original's ONNX export.
        before: Hash of the user's model when the run began.
        seconds: How long each stage took.
    """

    task: Task
    budget: Budget
    settings: Settings
    metric: Metric | None
    split: Split
    captured: Capture
    bindings: Bindings
    before: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def original(self) -> Path:
        """The original's ONNX export."""
        return self.bindings.original.path

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits asked for."""
        return self.budget.limits

    @property
    def arithmetic(self) -> Arithmetic:
        """How the artifact computes."""
        if self.settings.arithmetic is not None:
            return self.settings.arithmetic
        fast = any(limit.name in ("memory", "latency") for limit in self.limits)
        return "int8" if fast else "float32"

    @property
    def targets(self) -> Targets:
        """The limits in plain numbers, sizes against the original's export."""
        size = self.original.stat().st_size
        asked = {limit.name: limit for limit in self.limits}
        return Targets(
            storage=asked["storage"].resolve(size) if "storage" in asked else None,
            installed=asked["installed"].resolve(size) if "installed" in asked else None,
            drop=self.allowed_drop[0] if self.allowed_drop else None,
        )

    @property
    def allowed_drop(self) -> tuple[float, bool] | None:
        """The allowed drop and whether it is relative; None where none is limited or measured."""
        drop = next((limit for limit in self.limits if limit.name == "drop"), None)
        if drop is None or self.metric is None:
            return None
        return resolve_drop(drop, self.metric, 1.0)

    @property
    def folding(self) -> Folding:
        """What the export folds together."""
        factors: dict[str, Tensor] = {}
        for binding in self.bindings.found:
            for piece in binding.pieces:
                site = self.captured.sites.get(piece.parameter)
                if site is not None and piece.factor is not None:
                    flat = torch.from_numpy(piece.factor.reshape(-1).copy()).to(torch.float32)
                    factors[site.name] = flat.expand(site.rows) if len(flat) == 1 else flat
        whole = {n: f for n, f in factors.items() if len(f) == self.captured.sites[n].rows}
        names = {name for fold in self.bindings.folds for name in fold.names}
        return Folding(whole, frozenset(names - self.captured.sites.keys()))

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
        TaskError: See `lilliput.validation.check_task`.
        CaptureError: The model cannot be captured or exported.
    """
    started = time.perf_counter()
    before = state_hash(task.model)
    settings.progress("check the task", 0, 3)
    metric = check_task(task)
    split = task.split(settings.seed) if len(task) else Split((), (), ())
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
    seconds = {"prepare": round(time.perf_counter() - started, 3)}
    return Run(task, budget, settings, metric, split, captured, bindings, before, seconds)
