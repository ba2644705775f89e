"""What the rows on Fashion-MNIST share: tasks, training, and how a model is judged."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from examples.fashion_mnist import Pictures
from examples.fashion_mnist import read as pictures
from torch import Tensor, nn

import lilliput
from benchmarks.record import Record, versions
from benchmarks.rows.judged import Judged
from lilliput import Task, Training
from lilliput.evaluation import evaluating

HELD = 2_000  # of the 60,000 training pictures: calibration and search


def learned(
    model: nn.Module, seed: int, training: Training, train: Pictures | None = None
) -> nn.Module:
    """A model that has learned; its best state on held-out training pictures."""
    settings = Training(**(training.settings | {"seed": seed}))
    task = clothes_task(model, seed)
    if train is not None:
        held = len(train) - 1_000
        task = replace(task, train=train.part(0, held), search=train.part(held, len(train)))
    return lilliput.finetune(task, training=settings).model


def clothes_task(model: nn.Module, seed: int) -> Task:
    """All training pictures but the last of an order by seed; the test pictures prove."""
    found = pictures("train")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    mixed = Pictures(found.pixels[order], found.labels[order])
    end = len(mixed) - HELD
    return Task(
        model=model,
        metric="accuracy",
        train=mixed.part(0, end),
        calibration=mixed.part(end, end + 500),
        search=mixed.part(end + 500, len(mixed)),
        proof=pictures("t10k"),
    )


def of_classes(found: Pictures, classes: tuple[int, ...]) -> Pictures:
    """The pictures of some classes, numbered from 0."""
    chosen = torch.isin(found.labels, torch.tensor(classes)).nonzero().flatten()
    labels = torch.searchsorted(torch.tensor(classes), found.labels[chosen])
    return Pictures(found.pixels[chosen], labels)


def fresh(kind: Callable[[], nn.Module], seed: int) -> nn.Module:
    """With weights drawn by the seed."""
    torch.manual_seed(seed)
    return kind()


def drawn_anew(model: nn.Module, seed: int) -> nn.Module:
    """The same shape with weights drawn anew."""
    torch.manual_seed(seed)
    fresh = copy.deepcopy(model)
    for module in fresh.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return fresh


def judged_by_pictures(model: nn.Module, judged: Pictures | None = None) -> Judged:
    """Accuracy on the pictures that judge; for all ten classes those are the test pictures."""
    right = float(rights(model, judged).double().mean())
    return float_bytes(model), {"wrong": 1 - right}, {"accuracy": right}


def rights(model: nn.Module, judged: Pictures | None = None) -> Tensor:
    """(N,) which pictures are told right."""
    judged = judged or pictures("t10k")
    with evaluating(model):
        answers = torch.cat([model(some).argmax(1) for some in judged.pixels.split(500)])
    return answers == judged.labels


def float_bytes(model: nn.Module) -> int:
    """Of the weights in float32."""
    return 4 * sum(one.numel() for one in model.parameters())


def record(
    row: str, subject: str, key: tuple[str, str, int], found: Judged, *, whole: int
) -> Record:
    """What was found, under its peer, setting and seed."""
    size, errors, details = found
    peer, setting, seed = key
    return Record(
        row, subject, peer, setting, seed, size, size / whole, errors, details, versions()
    )
