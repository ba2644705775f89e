"""Does growth pay: grown and trained on, against the original and a network that began large."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from examples.fashion_mnist import Classifier
from torch import Tensor, nn
from torch.nn import functional as F

import lilliput
from benchmarks.record import SEEDS, Record
from benchmarks.rows.fashion import drawn_anew, float_bytes, fresh, learned, record, rights
from lilliput import Training
from lilliput.proportions import drop_lower

Done = frozenset[tuple[str, str, int]]
GROWN, ORIGINAL, SCRATCH = "grown, trained on", "original, trained on", "from scratch, all steps"


class Stack(nn.Module):
    """(N, 1, 28, 28) -> (N, 10): a plain stack of convolutions, without norms or shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 5, 4, 2)
        layers = [nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()) for _ in range(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(16 * 49, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps are of 7 x 7 all the way."""
        return self.head(self.body(F.relu(self.stem(pixels - 0.29))).flatten(1))


@dataclass(frozen=True)
class Growing:
    """One setting: what grows, how, and how long it learns before and after."""

    kind: Callable[[], nn.Module]
    before: Training
    after: Training
    how: dict[str, float]


SETTINGS = {
    "1.5 times wider": Growing(
        Classifier,
        Training(epochs=1, rate=3e-3),
        Training(epochs=1, rate=1e-3),
        {"width": 1.5, "noise": 0.02},
    ),
    "6 layers deeper": Growing(
        Stack,
        Training(epochs=1, rate=3e-3),
        Training(epochs=2, rate=1.5e-3),
        {"depth": 6, "noise": 0.01},
    ),
}


def measure(row: str, done: Done) -> Iterator[Record]:
    """All three of a setting, whose answers are compared picture by picture."""
    for seed in SEEDS:
        for setting, growing in SETTINGS.items():
            keys = [(peer, setting, seed) for peer in (GROWN, ORIGINAL, SCRATCH)]
            if not set(keys) <= done:
                yield from _records(row, keys, growing, seed=seed)


def _records(
    row: str, keys: list[tuple[str, str, int]], growing: Growing, *, seed: int
) -> Iterator[Record]:
    start = learned(fresh(growing.kind, seed), seed, growing.before)
    grown = lilliput.grow(start, torch.zeros(2, 1, 28, 28), seed=seed, **growing.how)
    whole = replace(
        growing.before, epochs=(growing.before.epochs or 0) + (growing.after.epochs or 0)
    )
    models = (
        learned(grown, seed, growing.after),
        learned(start, seed, growing.after),
        learned(drawn_anew(grown, seed), seed, whole),
    )
    ahead = rights(models[0])
    for key, model in zip(keys, models, strict=True):
        right = rights(model)
        share = float(right.double().mean())
        details: dict[str, object] = {"accuracy": share}
        if key[0] != GROWN:
            details |= _compared(ahead, right)
        found = (float_bytes(model), {"wrong": 1 - share}, details)
        yield record(row, "fashion_mnist", key, found, whole=float_bytes(start))


def _compared(ahead: Tensor, other: Tensor) -> dict[str, float]:
    """By how much the grown one is ahead, and at least (one-sided 95 %, paired)."""
    count = len(ahead)
    lost, won = int((ahead & ~other).sum()), int((~ahead & other).sum())
    least = drop_lower(lost, won, examples=count)
    return {"grown_ahead": (lost - won) / count, "grown_ahead_at_least": float(least)}
