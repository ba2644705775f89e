"""verify: shipped files judged anew, against a fresh export of the task's own model."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lilliput.budget import Budget
from lilliput.environment import environment
from lilliput.errors import TaskError
from lilliput.folders import PACKED
from lilliput.forms import WeightsForm
from lilliput.ledger import Ledger, Look
from lilliput.model.hashes import model_hash
from lilliput.records import Artifact, Report
from lilliput.runs import LEDGER, Settings
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.splits import Split
from lilliput.stages.judge import ONLY_LOOK, judge, with_summaries
from lilliput.stages.measure import measure
from lilliput.stages.report import read_report
from lilliput.stages.summary import summary_sentence
from lilliput.stages.verify import verify_files
from lilliput.task import Task
from lilliput.validation import check_task

MAX_BYTES = 4 * 2**30


def verify(
    out: str | Path,
    task: Task,
    *,
    fresh: bool = False,
    max_bytes: int = MAX_BYTES,
    settings: Settings | None = None,
) -> Report:
    """Checks the files of an output folder, then measures and judges them against the task.

    The limits and the split's seed are those of the folder's report, so the proof examples are
    those that `compress` never used for anything else. Nothing in the folder is changed.

    Args:
        out: Folder that `compress` wrote.
        task: The model that was compressed, and examples.
        fresh: No example of the task was ever seen by `compress`: all of them prove.
        max_bytes: The packed file may not unpack to more.
        settings: Conditions, ledger, and where progress is told; seed, part and arithmetic are
            those of the folder.

    Returns:
        The folder's report with everything measured and judged anew.

    Raises:
        InputError: The folder holds no report, or damaged files.
        TaskError: The task's model is not the one that was compressed.
    """
    out, settings = Path(out), settings or Settings()
    settings.progress("check the files", 0, 1)
    manifest = verify_files(out, max_bytes=max_bytes)
    known = read_report(out)
    if model_hash(task.model) != manifest.plan.model_hash:
        raise TaskError(
            f"the task's model is not the one that {out} was made from",
            "names and shapes of its parameters differ",
        )
    task = _all_prove(task) if fresh else task
    judged = _judge_anew(known, task, out=out, manifest=manifest, settings=settings)
    return judged.model_copy(update={"summary": summary_sentence(judged, out)})


def _judge_anew(
    known: Report, task: Task, *, out: Path, manifest: Artifact, settings: Settings
) -> Report:
    """The folder's report with a new measurement and new verdicts in the place of the old."""
    started = time.perf_counter()
    metric = check_task(task)
    split = task.split(known.seed) if len(task) else Split((), (), ())
    with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
        settings.progress("export the original", 0, 1)
        original = _original(task, manifest, Path(scratch))
        settings.progress("measure", 0, 1)
        measurement, evidence = measure(
            original,
            out,
            task=task,
            proof=split.proof,
            conditions=settings.conditions,
            progress=settings.progress,
        )
    look = _look(out, manifest, evidence.proof_hash if evidence else "", settings=settings)
    judgement = judge(
        Budget(**known.budget).limits,
        measurement,
        evidence=evidence,
        metric=metric,
        look=look,
        seed=known.seed,
    )
    changes = {
        "task": task.name,
        "original": measurement.original,
        "artifact": measurement.artifact,
        "limits": judgement.limits,
        "drop": judgement.drop and with_summaries(judgement.drop, task.summary),
        "fidelity": None,
        "runtimes": measurement.runtimes,
        "generalization": measurement.generalization,
        "verdict": judgement.verdict,
        "reasons": judgement.reasons,
        "warnings": task.notes,
        "splits": {"calibration": 0, "search": 0, "proof": len(split.proof)},
        "looks": {"proof": look.number},
        "environment": environment(),
        "seconds": {"verify": round(time.perf_counter() - started, 3)},
        "command": settings.command,
    }
    return known.model_copy(update=changes)


def _all_prove(task: Task) -> Task:
    """The same task, none of its examples kept back."""
    if task.examples is None:
        return task
    group = task.group if callable(task.group) else None
    return replace(
        task, examples=None, calibration=None, search=None, proof=task.examples, group=group
    )


def _original(task: Task, manifest: Artifact, scratch: Path) -> Path:
    path = scratch / "original.onnx"
    if isinstance(task.model, OnnxModule):
        return task.model.baseline_in(scratch)
    if manifest.kind == "torch":
        return WeightsForm.of(task.model, path).original
    dynamic: dict[str | int, tuple[int, ...]] = {
        place: dims for place, dims in enumerate(task.varying()) if dims
    }
    return export_original(task.model, task.sample(2), path, dynamic=dynamic).path


def _look(out: Path, manifest: Artifact, proof_hash: str, *, settings: Settings) -> Look:
    """The same files on the same proof examples are no new look."""
    if not proof_hash:
        return ONLY_LOOK
    ledger = Ledger(settings.ledger or out.resolve().parent / LEDGER)
    return ledger.look(proof_hash, manifest.files[PACKED].sha256)
