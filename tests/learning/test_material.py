"""The order in which training examples come."""

import torch
from torch import nn

from lilliput import Task
from lilliput.learning.material import POOL, Material


def lengths_of_steps(material: Material, *, size: int, seed: int = 0) -> list[list[int]]:
    """The lengths of the examples of every step of the first epoch."""
    steps = range(material.per_epoch(size))
    found = [material.examples(step, size=size, seed=seed) for step in steps]
    return [[len(example.input["input_ids"]) for example in one] for one in found]


def sentences(count: int) -> Task:
    """Sentences of 1 to 40 tokens, the first token of each its place."""
    inputs = []
    for place in range(count):
        tokens = torch.full((1 + (7 * place) % 40,), place)
        inputs.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
    return Task(model=nn.Embedding(count, 4), examples=inputs)


def test_sentences_of_one_step_are_of_similar_length():
    material = Material(sentences(640), tuple(range(640)), labelled=False)
    steps = lengths_of_steps(material, size=16)
    padded = sum(max(step) * len(step) for step in steps)
    assert padded < 1.15 * sum(map(sum, steps))  # without sorting 1.9 times
    means = [sum(step) / len(step) for step in steps[:POOL]]
    assert means != sorted(means)  # short and long steps come in any order


def test_every_sentence_comes_once_in_an_epoch_and_epochs_differ():
    material = Material(sentences(200), tuple(range(200)), labelled=False)
    epochs = [
        [
            int(example.input["input_ids"][0])
            for step in range(25)
            for example in material.examples(25 * epoch + step, size=8, seed=3)
        ]
        for epoch in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(200))
    assert epochs[0] != epochs[1]


def test_inputs_of_one_size_are_not_sorted():
    task = Task(model=nn.Linear(3, 1), examples=[torch.randn(3) for _ in range(40)])
    assert Material(task, tuple(range(40)), labelled=False).sizes == ()
