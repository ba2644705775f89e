"""Weights are removed while the rest learns."""

import pytest
import torch
from clothes import clothes, needs_data
from torch import nn

from lilliput.errors import TrainingError
from lilliput.learning.constraints.constrained import Constrained
from lilliput.learning.loop import Surroundings
from lilliput.learning.pruning import Pruning, prune
from lilliput.learning.thinning import without_smallest
from lilliput.learning.training import Training
from lilliput.learning.watching import Watch
from lilliput.model.encodings import Masked
from lilliput.model.hashes import state_hash

QUICK = Training(steps=30, rate=2e-3)


def test_the_schedules_end_where_they_shall():
    for schedule in ("gradual", "once", "rounds"):
        found = [Pruning(schedule=schedule, remove=0.8).removed(at / 20) for at in range(21)]
        assert found == sorted(found) and found[-1] == found[10] == 0.8
    cubic = Pruning(remove=0.8, begin=0.2, end=0.6)
    assert cubic.removed(0.1) == 0 and cubic.removed(0.4) == pytest.approx(0.8 * 0.875)
    assert Pruning(schedule="once", begin=0.5, end=1.0).removed(0.49) == 0
    rounds = Pruning(schedule="rounds", remove=0.75, rounds=2)
    assert rounds.removed(0.1) == pytest.approx(0.5) and rounds.after_round(2) == 0.75


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"remove": 1.0}, r"remove = 1\.0 is out of range"),
        ({"begin": 0.5, "end": 0.4}, r"end = 0\.4 is out of range"),
        ({"rounds": 0}, "rounds = 0 is out of range"),
        ({"schedule": "slowly"}, "no schedule 'slowly'"),
    ],
)
def test_values_out_of_range_are_errors(settings, words):
    with pytest.raises(TrainingError, match=words):
        Pruning(**settings)


def test_the_smallest_of_all_go_together():
    weights = [torch.tensor([[1.0, -5.0]]), torch.tensor([[0.5, 3.0]])]
    first, second = without_smallest(weights, 0.5)
    assert first.tolist() == [[False, True]] and second.tolist() == [[False, True]]


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["gradual", "once", "rounds", "rewound"])
def test_masks_are_in_force_after_training(schedule):
    task = clothes()
    before = state_hash(task.model)
    found = prune(
        task,
        Pruning(schedule=schedule, remove=0.8, rounds=2, early=5),
        training=QUICK,
    )
    assert found.removed == pytest.approx(0.8, abs=1e-3)
    for name, encoding in found.encodings.items():
        weight = found.learned.model.get_parameter(name)
        assert isinstance(encoding, Masked) and torch.equal(weight, encoding.decode())
        assert bool((weight[~encoding.mask] == 0).all())
    assert state_hash(task.model) == before
    watch = Watch.of(task, subset=task.split(0).search, metric=task.resolve_metric(torch.eye(2)))
    assert watch(found.learned.model) > 0.6
    held = Constrained(found.learned.model, found.encodings).model
    assert torch.equal(held.hidden.weight, found.learned.model.hidden.weight)


@needs_data
@pytest.mark.slow
def test_an_interrupted_pruning_ends_like_one_that_was_not(tmp_path):
    task, pruning = clothes(), Pruning(remove=0.7)
    whole = prune(task, pruning, training=QUICK)
    stopping = Surroundings(folder=tmp_path, stop=lambda moment: moment.step >= 9)
    assert prune(task, pruning, training=QUICK, around=stopping).learned.steps == 9
    rest = prune(task, pruning, training=QUICK, around=Surroundings(folder=tmp_path))
    assert rest.learned.resumed == 9
    assert state_hash(rest.learned.model) == state_hash(whole.learned.model)


@needs_data
def test_a_model_without_weights_is_refused():
    with pytest.raises(TrainingError, match="no weight that could be pruned"):
        prune(clothes(model=nn.Sequential(nn.Flatten(), nn.LayerNorm(784))))
