"""A language model at 4 bits in groups of 64: perplexity, seconds and memory, on one thread.

All weights with two axes, the tied table of tokens among them. Ours are a real packed file and a
runnable file, whose answers are what is scored; the peers' files are decoded into PyTorch.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks.models import divergence, load
from benchmarks.models.smollm2 import sequences
from benchmarks.peers.parts import fp32_bytes
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows import sites
from benchmarks.rows.groups import packed
from benchmarks.rows.ours import Done, examples
from benchmarks.rows.reports import PerToken
from lilliput import Budget, Task
from lilliput.metrics import Perplexity
from lilliput.records import Plan
from lilliput.runs import Settings, prepare
from lilliput.stages.apply import apply
from lilliput.stages.profile import observed, probed
from lilliput.techniques import QuantizeGroups

TEXT, SEQUENCES = "nytEditorialSnippets", 24
SEARCH = 16  # of the calibration sequences say whether whole row sides pay
PEERS = ("round_to_nearest", "hqq")
SETTING = "int4"
Answers = Callable[[Tensor], Tensor]  # (1, T) tokens -> (T, vocabulary) logits


def measure(row: str, done: Done) -> Iterator[Record]:
    """The original, ours and the peers for every seed."""
    for seed in SEEDS:
        keys = [("lilliput", SETTING), ("original", "fp32"), *((p, SETTING) for p in PEERS)]
        wanted = [peer for peer, setting in keys if (peer, setting, seed) not in done]
        if wanted:
            yield from _of_seed(row, seed, wanted)


def _of_seed(row: str, seed: int, wanted: Sequence[str]) -> Iterator[Record]:
    subject = load("smollm2", seed)
    model = PerToken(subject.model.net)
    tokens = [one["input_ids"] for one in sequences(TEXT, SEQUENCES, seed)]
    reference = [logits(model, {})(ids) for ids in tokens]
    whole = fp32_bytes(model)
    for peer in wanted:
        with tempfile.TemporaryDirectory() as folder:
            details: dict[str, object] = {}
            if peer == "lilliput":
                size, details = compressed(task_of(model, examples(subject.calibration)), folder)
                found = session(Path(folder) / "model.onnx")
            elif peer == "original":
                size, found = whole, logits(model, {})
            else:
                size, weights = rounded(peer, model)
                found = logits(model, weights)
            started = time.perf_counter()
            errors = scored(found, tokens, reference)
            details["scoring_seconds"] = round(time.perf_counter() - started, 1)
        yield Record(
            row=row,
            subject=subject.name,
            peer=peer,
            setting="fp32" if peer == "original" else SETTING,
            seed=seed,
            bytes=size,
            share=size / whole,
            errors=errors,
            details={
                **details,
                "memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                "tokens": sum(ids.shape[1] - 1 for ids in tokens),
                "threads": torch.get_num_threads(),
            }
            if peer == "lilliput"
            else details,
            versions=versions(),
        )


def task_of(model: nn.Module, some: Sequence[dict[str, Tensor]]) -> Task:
    """Calibration sequences calibrate and steer; nothing is left to prove here."""
    pairs = [(one, one["input_ids"]) for one in some]
    return Task(
        model=model,
        calibration=pairs[SEARCH:],
        search=pairs[:SEARCH],
        proof=pairs[:1],
        metric="perplexity",
        name="smollm2",
    )


def compressed(task: Task, folder: str) -> tuple[int, dict[str, object]]:
    """Bytes of the packed file, and what making it took; all files are left in the folder."""
    started, processor = time.perf_counter(), time.process_time()
    seconds: dict[str, float] = {}

    def lap(stage: str) -> None:
        seconds[stage] = round(time.perf_counter() - started - sum(seconds.values()), 1)
        print(f"{task.name}: {stage} took {seconds[stage]} s", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        run = prepare(task, Budget(), Settings(), Path(scratch))
        lap("prepare")
        known = observed(run.task, run.captured, split=run.split, folding=run.form.folding)
        lap("observe")
        known = probed(run.task, known, split=run.split, every=False)
        lap("probe")
        step = QuantizeGroups().step_of(tuple(run.captured.sites))
        plan = Plan(model_hash=run.captured.model_hash, steps=(step,))
        encodings = run.form.completed(apply(plan, known))
        lap("apply")
        exported = run.form.export(encodings, plan=plan, folder=Path(folder))
        lap("export")
    files = exported.artifact.files
    details: dict[str, object] = {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "stage_seconds": seconds,
        "installed_bytes": files["model.onnx"].bytes,
        "row_sides": sum(site.output is not None for site in known.sites.values()),
        "note": "seconds on one thread of a shared machine that was busy with other work",
    }
    return files["model.lilliput"].bytes, details


def rounded(peer: str, model: nn.Module) -> tuple[int, dict[str, Tensor]]:
    """The peer's file of all weights with two axes: its bytes, and what it decodes to."""
    weights = {name: value for name, value in model.named_parameters() if value.ndim > 1}
    items = {name: sites.WITHOUT_DATA[peer](value, 4) for name, value in weights.items()}
    return packed(items)


def logits(model: nn.Module, weights: dict[str, Tensor]) -> Answers:
    """The model in PyTorch with some weights replaced."""

    def answers(ids: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.func.functional_call(model, weights, (ids,))[0]

    return answers


def session(path: Path) -> Answers:
    """The runnable file in the runtime's default session, on as many threads as PyTorch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids: torch.from_numpy(opened.run(None, {"input_ids": ids.numpy()})[0][0])


def scored(
    answers: Answers, tokens: Sequence[Tensor], reference: Sequence[Tensor]
) -> dict[str, float]:
    """Perplexity of the next tokens, and the divergence from the original's answers."""
    metric, rows, apart = Perplexity(), [], []
    for ids, wanted in zip(tokens, reference, strict=True):
        found = answers(ids)
        rows.append(metric.rows(found[None], ids))
        apart.append(divergence(wanted, found)["kl"])
    return {"perplexity": metric.aggregate(np.concatenate(rows)), "kl": float(np.mean(apart))}
