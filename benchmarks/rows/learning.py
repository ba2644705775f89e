"""What learning does: few bits, growth, transfer, tuning, and what the loop itself costs.

All on Fashion-MNIST and the digits of scikit-learn; the 10,000 test pictures only judge.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from examples.fashion_mnist import Classifier, Pictures
from examples.fashion_mnist import read as pictures
from sklearn.datasets import load_digits
from torch import nn

import lilliput
from benchmarks.models import clothes
from benchmarks.models.clothes import LeNet300
from benchmarks.record import SEEDS, Record
from benchmarks.rows.fashion import (
    clothes_task,
    float_bytes,
    fresh,
    judged_by_pictures,
    learned,
    of_classes,
    record,
)
from benchmarks.rows.judged import Judged, of_report
from lilliput import Budget, Recover, Study, Task, Training
from lilliput.learning import Reach
from lilliput.runs import Settings

Done = frozenset[tuple[str, str, int]]


@cache
def base(seed: int) -> nn.Module:
    """The example's network after three passes."""
    return learned(fresh(Classifier, seed), seed, Training(epochs=3, batch_size=128, rate=3e-3))


def few_bits(row: str, subject: str, done: Done) -> Iterator[Record]:
    """Weights of 4 and 2 bits, rounded, and trained so (full and light)."""
    for seed in SEEDS:
        for bits in (4, 2):
            for peer, recover in _WAYS[subject].items():
                key = (peer, f"{bits} bits", seed)
                if key not in done:
                    task = _FEW[subject](seed)
                    found = _rounded(task, bits, recover, seed=seed)
                    yield record(row, subject, key, found, whole=float_bytes(task.model))


def _rounded(task: Task, bits: int, recover: Recover | None, *, seed: int) -> Judged:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        how = Settings(seed=seed, recover=recover, ledger=folder / "looks.json")
        if recover is None:
            from lilliput.quantizing import rounding_plan

            plan = rounding_plan(task, bits=bits, seed=seed)
            told = lilliput.apply_plan(plan, task, Budget(), out=folder / "out", settings=how)
        else:
            told = lilliput.quantize_aware(
                task, Budget(), out=folder / "out", bits=bits, settings=how
            )
    return of_report(told)


_FEW: dict[str, Callable[[int], Task]] = {
    "fashion_mnist": lambda seed: clothes_task(base(seed), seed),
    "resnet20": partial(clothes.task, "resnet20"),
}
_LIGHT = Recover(steps=300, strength="light")
_DEEP = Recover(epochs=2, strength="full", rate=5e-4, batch_size=128, augmentation="flip")
_WAYS = {
    "fashion_mnist": {
        "rounded": None,
        "light recovery": _LIGHT,
        "trained so": Recover(epochs=2, strength="full", rate=5e-4),
    },
    "resnet20": {
        "rounded": None,
        "light recovery": _LIGHT,
        "trained so": _DEEP,
        "trained so, no labels": replace(_DEEP, labels=0.0),
    },
}


def transfer(row: str, done: Done) -> Iterator[Record]:
    """Six classes known, four new ones with 200 labels: four ways to learn these."""
    short = Training(steps=300, batch_size=32, rate=3e-3)
    ways: dict[str, Reach | str] = {
        "new head": "head",
        "new head, all weights": "all",
        "new head, adapters": Reach(part="adapters", rank=8),
        "from scratch": "all",
    }
    for seed in SEEDS:
        for peer, reach in ways.items():
            key = (peer, "4 new classes, 200 labels", seed)
            if key in done:
                continue
            scratch = peer == "from scratch"
            start = fresh(Classifier, seed) if scratch else _six_classes(seed)
            few = of_classes(pictures("train"), (6, 7, 8, 9))
            task = Task(
                model=copy.deepcopy(start),
                metric="accuracy",
                train=few.part(seed * 200, seed * 200 + 200),
                search=few.part(20_000, 21_000),
                proof=of_classes(pictures("t10k"), (6, 7, 8, 9)),
            )
            training = Training(**(short.settings | {"seed": seed}))
            found = lilliput.finetune(task, training=training, reach=reach, classes=4)
            judged = judged_by_pictures(found.model, of_classes(pictures("t10k"), (6, 7, 8, 9)))
            size = float_bytes(Classifier())
            yield record(row, "fashion_mnist", key, judged, whole=size)


@cache
def _six_classes(seed: int) -> nn.Module:
    known = of_classes(pictures("train"), (0, 1, 2, 3, 4, 5))
    return learned(fresh(Classifier, seed), seed, Training(epochs=1, rate=3e-3), known)


def tuning(row: str, done: Done) -> Iterator[Record]:
    """The default settings against the best of twenty trials, each trained as long."""
    for seed in SEEDS:
        for name, make in _TASKS.items():
            for peer in ("defaults", "tuned"):
                key = (peer, name, seed)
                if key in done:
                    continue
                task, judged, training = make(seed)
                if peer == "tuned":
                    study = Study(trials=20, seed=seed)
                    model = lilliput.tune(task, study=study, training=training).learned.model
                else:
                    model = lilliput.finetune(task, training=training).model
                found = judged_by_pictures(model, judged)
                yield record(row, name, key, found, whole=float_bytes(task.model))


def _digit_pixels(seed: int) -> tuple[Task, Pictures, Training]:
    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    everything = Pictures(
        torch.from_numpy(found.images.astype(np.float32) / 16)[order, None],
        torch.from_numpy(found.target)[order].long(),
    )
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    judged = everything.part(1_100, 1_797)
    task = Task(model=model, metric="accuracy", train=everything.part(0, 700),
                search=everything.part(700, 1_100), proof=judged)  # fmt: skip
    return task, judged, Training(epochs=6, seed=seed)


def _perceptron(seed: int) -> tuple[Task, Pictures, Training]:
    return _shortly(LeNet300, seed), pictures("t10k"), Training(steps=150, seed=seed)


def _convolutional(seed: int) -> tuple[Task, Pictures, Training]:
    return _shortly(Classifier, seed), pictures("t10k"), Training(steps=100, seed=seed)


def _shortly(kind: Callable[[], nn.Module], seed: int) -> Task:
    held = pictures("train").part(58_000, 60_000)
    return Task(
        model=fresh(kind, seed),
        metric="accuracy",
        train=pictures("train").part(0, 10_000),
        search=held.part(0, 1_000),
        proof=pictures("t10k"),
    )


_TASKS = {
    "digits, perceptron": _digit_pixels,
    "clothes, LeNet-300-100": _perceptron,
    "clothes, convolutions": _convolutional,
}


def overhead(row: str, done: Done) -> Iterator[Record]:
    """Processor seconds of a step in the loop over those of a bare one, taken in turns."""
    kinds: dict[str, Callable[[], nn.Module]] = {
        "LeNet-300-100": LeNet300,
        "convolutions": Classifier,
    }
    for seed in SEEDS:
        for name, kind in kinds.items():
            key = ("our loop over a bare one", name, seed)
            if key not in done:
                ratios = [_ours(kind, seed) / _bare(kind, seed) for _ in range(7)]
                details: dict[str, object] = {"times_a_bare_step": float(np.median(ratios))}
                details["spread"] = [min(ratios), max(ratios)]
                yield record(row, name, key, (0, {}, details), whole=1)


def _ours(kind: Callable[[], nn.Module], seed: int, steps: int = 150) -> float:
    """What is done once (hashes of the examples, evaluations) is taken off."""
    task = _shortly(kind, seed)
    training = Training(steps=steps, batch_size=64, every=steps)
    short = replace(training, steps=1, every=1)
    lilliput.finetune(task, training=short)  # hashes are kept
    return (_spent(task, training) - _spent(task, short)) / (steps - 1)


def _spent(task: Task, training: Training) -> float:
    started = time.process_time()
    lilliput.finetune(task, training=training)
    return time.process_time() - started


def _bare(kind: Callable[[], nn.Module], seed: int, steps: int = 150) -> float:
    """As tutorials write it, on torch's DataLoader."""
    model = fresh(kind, seed)
    loader = torch.utils.data.DataLoader(
        pictures("train").part(0, 10_000), batch_size=64, shuffle=True, drop_last=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    spent, started = 0, time.process_time()
    for pixels, labels in loader:
        if spent == 1:
            started = time.process_time()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(pixels), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        spent += 1
        if spent == steps:
            break
    return (time.process_time() - started) / (spent - 1)
