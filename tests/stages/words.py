"""A small classifier of word lists: its task, and how it becomes an artifact."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lilliput.folders import fresh_folder
from lilliput.model.encodings import Dense, Encoding, Grid
from lilliput.model.sites import Site
from lilliput.records import Plan, Step
from lilliput.runtime.onnx_bind import Bindings, bind
from lilliput.runtime.onnx_export import export_original
from lilliput.stages.export import Exported, export
from lilliput.task import Task


class Words(nn.Module):
    """The mean of word vectors, then two layers; a second output that does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 64)
        self.hidden = nn.Linear(64, 128)
        self.head = nn.Linear(128, 4)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = attention_mask[:, :, None].float()
        mean = (self.embed(tokens) * mask).sum(1) / mask.sum(1)
        hidden = self.hidden(mean).relu()
        return hidden, self.head(hidden)


@dataclass
class Shipped:
    """A task, its original and the artifact."""

    task: Task
    bindings: Bindings
    encodings: dict[str, Encoding]
    exported: Exported
    folder: Path


def words_task(count: int = 120, *, labelled: bool = True) -> Task:
    torch.manual_seed(0)
    model = Words()
    examples = []
    for index in range(count):
        length = 3 + index % 5
        tokens = torch.randint(0, 500, (length,))
        inputs = {"tokens": tokens, "attention_mask": torch.ones(length, dtype=torch.long)}
        examples.append((inputs, index % 4 if labelled else None))
    return Task(model=model, examples=examples, metric="accuracy" if labelled else None, output=1)


def encode(model: nn.Module, levels: int) -> dict[str, Encoding]:
    """Round to nearest on `levels` levels each way; biases to half precision."""
    found: dict[str, Encoding] = {}
    for name, value in model.named_parameters():
        if value.ndim < 2:
            found[name] = Dense(value.detach().half().float())
            continue
        steps = value.detach().abs().amax(1) / levels
        codes = torch.round(value.detach() / steps[:, None]).to(torch.int8)
        found[name] = Grid(codes, steps, None, tuple(value.shape))
    return found


def ship(task: Task, folder: Path, levels: int = 127) -> Shipped:
    sample = task.sample(2)
    exported = export_original(
        task.model,
        sample,
        folder.with_suffix(".original.onnx"),
        dynamic=dict(enumerate(task.varying())),
    )
    state = dict(task.model.named_parameters())
    sites = {
        n: Site(n, "linear", tuple(v.shape), v.shape[0], v.shape[1])
        for n, v in state.items()
        if v.ndim == 2
    }
    bindings = bind(exported, sites, state)
    encodings = encode(task.model, levels)
    plan = Plan(model_hash="0", steps=(Step(technique="round", where=tuple(sites)),))
    with fresh_folder(folder) as partial:
        result = export(bindings, encodings, model=task.model, plan=plan, folder=partial)
    return Shipped(task, bindings, encodings, result, folder)
