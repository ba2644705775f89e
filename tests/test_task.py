from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from lilliput.errors import TaskError
from lilliput.metrics import Accuracy, Agreement, Cosine
from lilliput.task import Task

NET = nn.Linear(4, 3)


def vectors(count, *, labelled=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 4, generator=generator)
    return [(x, i % 3) for i, x in enumerate(values)] if labelled else list(values)


def sentences(count):
    """Dicts of unequal length; every other one has its keys the other way round."""
    made = []
    for i in range(count):
        ids = torch.arange(1, 2 + i % 7)
        pair = {"input_ids": ids + i, "attention_mask": torch.ones_like(ids)}
        made.append(pair if i % 2 == 0 else dict(reversed(pair.items())))
    return made


class Output(nn.Module):
    """Returns whatever it was made with, computed from x."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def test_a_split_is_disjoint_complete_and_keeps_duplicates_together():
    examples = [*vectors(200), *vectors(200)[:50]]  # the first 50 twice
    split = Task(model=NET, examples=examples).split(3)
    everything = [*split.calibration, *split.search, *split.proof]
    assert sorted(everything) == list(range(250))
    for i in range(50):
        assert sum({i, 200 + i} <= set(part) for part in vars(split).values()) == 1
    assert split == Task(model=NET, examples=examples).split(3)
    assert split != Task(model=NET, examples=examples).split(4)


def test_split_sizes_follow_the_fields():
    task = Task(
        model=NET, examples=vectors(100), calibration_size=10, search_size=20, proof_size=30
    )
    assert task.split().sizes() == {"calibration": 10, "search": 20, "proof": 30}


def test_a_group_stays_in_one_subset():
    task = Task(model=NET, examples=vectors(90), group=[i // 9 for i in range(90)])
    split = task.split()
    sides = [{i // 9 for i in part} for part in vars(split).values()]
    assert sum(map(len, sides)) == 10
    assert all(vars(split).values())
    by_call = Task(model=NET, examples=vectors(90), group=lambda item: item[1])
    assert by_call.example(4).group == 1
    batch = next(by_call.batches(range(6), 6))
    assert batch.groups.tolist() == [0, 1, 2, 0, 1, 2]


def test_own_subsets_are_numbered_after_the_examples_and_never_overlap():
    own = vectors(30, seed=1)
    task = Task(model=NET, examples=vectors(10), calibration=own[:20], proof=own[15:])
    assert len(task) == 45
    split = task.split()
    assert split.calibration == tuple(range(10, 25))  # 15 to 19 of them are in the proof set too
    assert split.proof == tuple(range(30, 45))
    assert set(split.search) <= set(range(10))
    assert torch.equal(task.example(30).input, own[15][0])
    full = Task(model=NET, calibration=own[:10], search=own[10:20], proof=own[20:])
    assert full.split().sizes() == {"calibration": 10, "search": 10, "proof": 10}


def test_examples_also_given_as_an_own_subset_are_used_once():
    proof = vectors(40)
    task = Task(model=NET, examples=proof, proof=proof, calibration=vectors(5, seed=2))
    assert task.split().sizes() == {"calibration": 5, "search": 0, "proof": 40}


def test_batches_cover_a_subset_once_and_sort_by_length():
    task = Task(model=NET, examples=sentences(50))
    batches = list(task.batches(range(50), 8))
    seen = np.concatenate([batch.indices for batch in batches])
    assert sorted(seen.tolist()) == list(range(50))
    lengths = [batch.inputs["input_ids"].shape[1] for batch in batches]
    assert lengths == sorted(lengths)
    padded = sum(int((batch.mask == 0).sum()) for batch in batches)
    assert padded < 50  # in the order given it would be about 3 per example
    for batch in batches:
        assert batch.mask is batch.inputs["attention_mask"]
        assert list(batch.inputs) == ["input_ids", "attention_mask"]
        for row, index in enumerate(batch.indices):
            ids = task.example(int(index)).input["input_ids"]
            assert torch.equal(batch.inputs["input_ids"][row][: len(ids)], ids)
            assert int(batch.mask[row].sum()) == len(ids)


def test_without_a_mask_unequal_lengths_never_share_a_batch():
    examples = [torch.ones(2 + i % 3) for i in range(20)]
    task = Task(model=NET, examples=examples)
    batches = list(task.batches(range(20), 16))
    assert [tuple(batch.inputs.shape) for batch in batches] == [(7, 2), (7, 3), (6, 4)]
    assert all(batch.mask is None for batch in batches)


def test_a_window_bounds_what_is_held(monkeypatch):
    monkeypatch.setattr("lilliput.batches.WINDOW_BYTES", 4 * 4 * 10)
    held = Counter()

    class Watched(list):
        def __getitem__(self, index):
            held["most"] = max(held["most"], index - held["yielded"])
            return super().__getitem__(index)

    task = Task(model=NET, examples=Watched(vectors(100, labelled=False)))
    for batch in task.batches(range(100), 4):
        held["yielded"] += len(batch)
    assert held["yielded"] == 100
    assert held["most"] <= 12


def test_collate_of_the_users_own():
    def collate(words):
        longest = max(map(len, words))
        return torch.tensor([[ord(c) for c in word.ljust(longest)] for word in words])

    task = Task(model=NET, examples=["ab", "c", "def"], collate=collate)
    (batch,) = task.batches(range(3), 8)
    assert batch.inputs.shape == (3, 3)
    assert task.varying() == [(1,)]
    broken = Task(model=NET, examples=["ab"], collate=lambda words: words[5])
    with pytest.raises(TaskError, match="collate failed: IndexError"):
        broken.sample()


def test_which_dimensions_vary():
    assert Task(model=NET, examples=vectors(9)).varying() == [()]
    assert Task(model=NET, examples=sentences(9)).varying() == [(1,), (1,)]
    named = Task(model=NET, examples=[torch.zeros(3, 5, 5)], dynamic={0: (0, 2, 3)})
    assert named.varying() == [(2, 3)]
    with pytest.raises(TaskError, match="dynamic names 'ids', the inputs are"):
        Task(model=NET, examples=sentences(2), dynamic={"ids": (1,)}).varying()


def test_a_sample_is_long_enough_to_capture_with():
    assert Task(model=NET, examples=sentences(20)).sample(2)["input_ids"].shape == (2, 7)
    assert Task(model=NET, examples=[torch.zeros(2), torch.zeros(5)]).sample(2).shape == (2, 5)
    assert Task(model=NET, examples=vectors(1)).sample(3).shape == (3, 4)
    assert Task(model=NET, example_inputs=torch.zeros(2, 4)).sample().shape == (2, 4)


def test_a_mask_by_its_place_in_a_tuple():
    pairs = [((torch.ones(n), torch.ones(n)), None) for n in (2, 3)]
    task = Task(model=NET, examples=pairs, mask=1)
    (batch,) = task.batches(range(2), 2)
    assert batch.mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    with pytest.raises(TaskError, match="inputs are no tuple that long"):
        Task(model=NET, examples=vectors(2), mask=1).sample()
    with pytest.raises(TaskError, match="mask names 'real'"):
        Task(model=NET, examples=sentences(2), mask="real").sample()


@pytest.mark.parametrize(
    ("make", "output", "place"),
    [
        (lambda x: x, None, 0),
        (lambda x: (x, x + 1), None, 0),
        (lambda x: (x, x + 1), 1, 1),
        (lambda x: (None, x, x + 1), 2, 1),
        (lambda x: {"loss": x.sum(), "logits": x + 1}, None, 1),
        (lambda x: {"b": x, "a": x + 1}, None, 0),
        (lambda x: {"b": x, "a": x + 1}, "a", 1),
    ],
)
def test_which_output_counts(make, output, place):
    task = Task(model=Output(make), examples=vectors(2), output=output)
    raw = task.run(task.model, torch.zeros(2, 4))
    assert task.output_index(raw) == place
    assert float(task.pick(raw)[0, 0]) == float(place > 0)
    assert torch.equal(task.predict(task.model, torch.zeros(2, 4)), task.pick(raw))


@pytest.mark.parametrize(
    ("make", "output", "message"),
    [
        (lambda x: {"a": x}, "b", r"no output 'b'; it returned \['a'\]"),
        (lambda x: (x,), 3, "no output 3; it returned tuple"),
        (lambda x: {"a": 5}, "a", "output 'a' is int, not a tensor"),
        (lambda x: {"a": 5}, None, "returned no tensor but dict"),
    ],
)
def test_outputs_that_are_not_there(make, output, message):
    task = Task(model=Output(make), examples=vectors(2), output=output)
    with pytest.raises(TaskError, match=message):
        task.predict(task.model, torch.zeros(2, 4))


def test_the_metric_that_is_meant():
    task = Task(model=NET, examples=vectors(4))
    assert task.resolve_metric(torch.randn(5, 3)) == Agreement()
    assert task.resolve_metric(torch.randn(5, 3, 2)) == Cosine()
    named = Task(model=NET, examples=vectors(4), metric="accuracy")
    assert named.resolve_metric(torch.randn(5, 3)) == Accuracy()
    assert Task(model=NET, examples=vectors(4), metric=Accuracy(k=2)).metric == Accuracy(k=2)
    bare = Task(model=NET, examples=vectors(4, labelled=False), metric="accuracy")
    with pytest.raises(TaskError, match=r"accuracy needs a target .*leave the metric out"):
        bare.resolve_metric(torch.randn(5, 3))


def test_the_proof_hash_knows_inputs_and_targets_but_no_order():
    examples = vectors(10)
    task = Task(model=NET, examples=examples)
    wanted = task.proof_hash((0, 1, 2))
    assert wanted == Task(model=nn.Linear(4, 9), examples=examples[:3]).proof_hash((2, 0, 1))
    assert wanted != task.proof_hash((0, 1, 3))
    relabelled = [(x, 2 - y) for x, y in examples]
    assert wanted != Task(model=NET, examples=relabelled).proof_hash((0, 1, 2))


def test_words_for_reports():
    task = Task(model=NET, examples=vectors(3), label_names=["cat", "dog", "cow"])
    assert task.summary(0).startswith("4 numbers from ")
    assert [task.label_text(y) for y in (0, torch.tensor(1), np.int64(2), 7, "x", None)] == [
        "cat", "dog", "cow", "7", "x", None,
    ]  # fmt: skip
    spoken = Task(model=NET, examples=vectors(3), describe=lambda x: f"vector of {len(x)}")
    assert spoken.summary(1) == "vector of 4"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": []}, "there are no examples"),
        ({}, "there are no examples"),
        ({"model": {"w": 1}, "examples": [1]}, r"torch.nn.Module, got dict .*load_weights"),
        ({"examples": iter([1])}, "indexed by number, got list_iterator"),
        ({"examples": "text"}, "indexed by number, got str"),
        ({"examples": [1], "metric": "acuracy"}, 'did you mean "accuracy"'),
        ({"examples": [1], "metric": 5}, "metric int has no name, higher_is_better"),
        ({"examples": [1], "search_size": 0}, "search_size must be a whole number"),
        ({"examples": [1], "calibration_size": 0.5}, "calibration_size must be a whole number"),
        ({"examples": [1, 2], "group": [1]}, "group has 1 entries for 2 examples"),
    ],
)
def test_fields_that_do_not_fit(fields, message):
    with pytest.raises(TaskError, match=message):
        Task(**{"model": NET, **fields})


def test_examples_that_fail():
    class Bad(list):
        def __getitem__(self, index):
            raise RuntimeError("disk on fire")

    with pytest.raises(TaskError, match=r"examples\[1\] failed: RuntimeError: disk on fire .*line"):
        Task(model=NET, examples=Bad([1, 2])).example(1)
    with pytest.raises(TaskError, match=r"a tuple of 3, expected input or \(input, target\)"):
        Task(model=NET, examples=[(1, 2, 3)]).example(0)
    with pytest.raises(TaskError, match="no example 9, the task has 1"):
        Task(model=NET, examples=[1]).example(9)
