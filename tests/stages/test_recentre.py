"""The output's mean comes back, by labels nobody asked for."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from classifiers import CLASSES, SIZE, Convolutions, Perceptron, task_of, trained
from lilliput.model.capture import capture
from lilliput.model.encodings import Dense
from lilliput.records import Plan
from lilliput.stages.apply import apply
from lilliput.stages.profile import profile
from lilliput.stages.recentre import Recentring, output_bias
from lilliput.task import Task
from lilliput.techniques import QuantizeFloat16, QuantizeRound


def known_of(task):
    captured = capture(task.model, task.sample(2), smallest=1)
    return profile(task, captured, task.split(0))


@pytest.mark.parametrize("kind", [Perceptron, Convolutions])
def test_the_mean_output_is_the_originals(kind):
    task = task_of(trained(kind), count=800)
    known, split = known_of(task), task.split(0)
    recentring = Recentring.of(task, known, split=split)
    assert recentring.name == "head.bias"
    others = [name for name in known.parameters if name not in known.sites]
    steps = (QuantizeRound(bits=2).step_of(list(known.sites)), QuantizeFloat16().step_of(others))
    plain = apply(Plan(model_hash=known.model_hash, steps=steps), known)
    moved = recentring(plain)
    assert {n for n in moved if moved[n] is not plain[n]} == {"head.bias"}
    bias = moved["head.bias"].decode()
    assert bias.dtype == torch.float32 and torch.equal(bias, bias.half().float())
    images = torch.stack([task.example(i).input for i in split.calibration])

    def mean(encodings):
        values = {name: encoding.decode() for name, encoding in encodings.items()}
        with torch.no_grad():
            return torch.func.functional_call(task.model, values, images).mean(0)

    before = (mean(plain) - mean({})).abs().max()
    after = (mean(moved) - mean({})).abs().max()
    assert before > 0.05 and after < 0.002 * (1 + bias.abs().max())


class Ending(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.head, self.last = nn.Linear(SIZE * SIZE, CLASSES), last

    def forward(self, image):
        return self.last(self.head(image.flatten(1)))


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (nn.Dropout(), "head.bias"),
        (nn.LayerNorm(CLASSES), "last.bias"),
        (nn.Softmax(1), None),
        (nn.LayerNorm(CLASSES, bias=False), None),
    ],
)
def test_only_what_is_added_last_counts(last, name):
    task = task_of(Ending(last).eval(), count=200)
    known = known_of(task)
    assert output_bias(task, known) == name
    found = Recentring.of(task, known, split=task.split(0))
    assert (found and found.name) == name
    bare = replace(task.split(0), calibration=())
    assert Recentring.of(task, known, split=bare) is None


def test_padding_is_left_out():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(20, 6), nn.Linear(6, 4)

        def forward(self, ids, mask):
            return self.head(self.words(ids))

    made = torch.Generator().manual_seed(0)
    texts = [
        {"ids": torch.randint(1, 20, (n,), generator=made), "mask": torch.ones(n).long()}
        for n in (3, 5, 9) * 20
    ]
    task = Task(model=Tagger().eval(), examples=texts, metric="kl", mask="mask")
    recentring = Recentring(task, "head.bias", tuple(range(60)), task)
    words = task.model.words.weight.detach().clone()
    words[0] = 100.0  # the padding; no text holds it
    moved = recentring({"words.weight": Dense(words)})["head.bias"].decode()
    assert torch.allclose(moved, task.model.head.bias, atol=1e-5)
