"""Small students of Fashion-MNIST: trained alone, and with a teacher, for equally many steps.

Three settings. All 20,000 pictures have labels, for student and teacher. A thousand have labels,
and a teacher that somebody trained on all of them is at hand. A thousand have labels, and the
teacher had no others. A distilled student learns from all pictures and sees no label, unless it is
said that targets are mixed in; alone it learns from the labels there are. A thousand other pictures
choose among ten states of every run, the 10,000 test pictures judge.
"""

import time
from collections.abc import Iterator
from functools import cache

import torch
from examples.fashion_mnist import Classifier, Pictures
from examples.fashion_mnist import read as pictures
from torch import Tensor, nn

from benchmarks.record import SEEDS, Record, read, versions
from lilliput import Task
from lilliput.evaluation import evaluating
from lilliput.learning import Learned, Logits, Teaching, Training, distill, finetune

Done = frozenset[tuple[str, str, int]]
TRAIN, SEARCH = 20_000, 1_000  # of the 60,000 pictures for training
LABELLED = 1_000
STUDENT = Training(steps=2_000, batch_size=64, rate=3e-3)
TEACHER = {
    TRAIN: Training(steps=1_200, batch_size=128, rate=3e-3),
    LABELLED: Training(steps=400, batch_size=128, rate=3e-3),
}
SETTINGS = {  # what the student alone has, what its teacher had
    "all labelled": (TRAIN, TRAIN),
    "1,000 labelled, teacher of all": (LABELLED, TRAIN),
    "1,000 labelled, teacher of the same": (LABELLED, LABELLED),
}
ALONE, DISTILLED, MIXED = "alone", "distilled", "distilled, targets mixed in"
LOSSES = {DISTILLED: Logits(), MIXED: Logits(temperature=2.0, targets=0.5)}


class Small(nn.Module):
    """(N, 1, 28, 28) -> (N, 10): two convolutions and one linear layer, 4,290 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
            *(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        )
        self.head = nn.Linear(8 * 7 * 7, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.body(pixels - 0.29).flatten(1))


def measure(row: str, done: Done) -> Iterator[Record]:
    """Alone, then distilled, in every setting, for every seed."""
    for seed in SEEDS:
        for setting, (labelled, taught) in SETTINGS.items():
            for peer in (ALONE, DISTILLED, MIXED):
                if peer == MIXED and labelled < TRAIN:
                    continue
                if (peer, setting, seed) in done:
                    continue
                start = time.perf_counter()
                found = _trained(peer, labelled, taught, seed)
                seconds = time.perf_counter() - start
                accuracy = _accuracy(found.model)
                details: dict[str, object] = {"accuracy": accuracy, "seconds": seconds}
                details |= {"steps": found.steps, "step_seconds": found.seconds_per_step}
                if peer != ALONE:
                    details["gain"] = accuracy - _alone(row, setting, seed)
                    details["teacher_accuracy"] = _accuracy(teacher(taught, seed))
                size, whole = _bytes(found.model), _bytes(Classifier())
                yield Record(
                    row=row,
                    subject="fashion_mnist",
                    peer=peer,
                    setting=setting,
                    seed=seed,
                    bytes=size,
                    share=size / whole,
                    errors={"wrong": 1 - accuracy},
                    details=details,
                    versions=versions(),
                )


def _trained(peer: str, labelled: int, taught: int, seed: int) -> Learned:
    settings = Training(**(STUDENT.settings | {"seed": seed}))
    torch.manual_seed(seed)
    student = Small()
    if peer == ALONE:
        return finetune(_task(student, labelled, seed), training=settings)
    task = _task(teacher(taught, seed), TRAIN, seed)
    kept = Teaching(keep="memory")
    return distill(task, student=student, losses=LOSSES[peer], teaching=kept, training=settings)


@cache
def teacher(labelled: int, seed: int) -> nn.Module:
    """The example's network, trained on so many pictures; one for all seeds where it has all."""
    seed = 0 if labelled == TRAIN else seed
    torch.manual_seed(seed)
    settings = Training(**(TEACHER[labelled].settings | {"seed": seed}))
    return finetune(_task(Classifier(), labelled, seed), training=settings).model


def _task(model: nn.Module, count: int, seed: int) -> Task:
    """The first `count` training pictures in an order of the seed's own, and what judges."""
    everything = _shuffled(seed)
    end = len(everything)
    return Task(
        model=model,
        train=everything.part(0, count),
        search=everything.part(end - SEARCH, end),
        metric="accuracy",
    )


@cache
def _shuffled(seed: int) -> Pictures:
    found = pictures("train")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    return Pictures(found.pixels[order], found.labels[order])


def _accuracy(model: nn.Module) -> float:
    test = pictures("t10k")
    with evaluating(model):
        answers = torch.cat([model(some).argmax(1) for some in test.pixels.split(500)])
    return float((answers == test.labels).double().mean())


def _alone(row: str, setting: str, seed: int) -> float:
    known = {record.key: record for record in read(row)}
    return float(str(known[ALONE, setting, seed].details["accuracy"]))


def _bytes(model: nn.Module) -> int:
    return 4 * sum(one.numel() for one in model.parameters())
