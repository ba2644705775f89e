"""Compressed networks learn back what was lost, under their constraints."""

import copy
from dataclasses import replace

import pytest
import torch
from clothes import Small, clothes, needs_data
from torch import nn

from lilliput.errors import PlanError, TrainingError
from lilliput.learning.constraints.constrained import Constrained
from lilliput.learning.constraints.restated_norms import can_restate, restate_norms
from lilliput.learning.loop import Surroundings
from lilliput.learning.recovering import Nearness, output_loss
from lilliput.learning.recovery import Recover
from lilliput.learning.training import Training
from lilliput.model.encodings import Dense, Grid
from lilliput.model.hashes import state_hash
from lilliput.stages.recover import Ground, half_steps, recover
from lilliput.techniques import LearnRecovery, from_step
from lilliput.tensor.grids import clipped_steps

SITES = ("second.weight", "hidden.weight", "head.weight")


def rounded(model, bits=2):
    """Every site on a grid of few bits."""
    found = {}
    for name in SITES:
        weight = model.get_parameter(name).detach()
        matrix, most = weight.flatten(1), 2 ** (bits - 1) - 1
        steps = clipped_steps(matrix, bits, power=torch.ones(1, 1))
        codes = (matrix / steps[:, None]).round().clamp(-most, most).to(torch.int8)
        found[name] = Grid(codes, steps, None, tuple(weight.shape))
    return found


def ground(task, **changes):
    given = {"task": task, "original": task, "split": task.split(0)}
    return Ground(metric=task.resolve_metric(torch.zeros(2, 10)), **(given | changes))


def test_the_short_form_is_read_and_written():
    for text in ("minutes=10,strength=light", "steps=500,strength=full,squeeze=true", "epochs=2"):
        found = Recover.parse(text)
        assert Recover.parse(str(found)) == found
    assert Recover.parse("minutes=0.5").minutes == 0.5
    assert Recover().technique == LearnRecovery()
    assert Recover.of(LearnRecovery(steps=7, rate=0.1)).technique == LearnRecovery(
        steps=7, rate=0.1
    )
    assert Recover().training(seed=1, still_norms=False).steps == LearnRecovery().steps


def test_the_best_values_of_a_study_land_in_the_plan(tmp_path):
    tuned = Training(rate=0.02, batch_size=16, optimizer="sgd", weight_decay=0.1, clip=0.5)
    path = tmp_path / "training.toml"
    path.write_text(tuned.written())
    found = Recover.parse(f"steps=9,strength=full,batch_size=32,settings={path}")
    assert found == Recover.like(tuned, steps=9, strength="full", batch_size=32)
    step = found.technique.step_of([])
    assert step.settings["rate"] == 0.02 and step.settings["batch_size"] == 32
    assert step.settings["optimizer"] == "sgd" and step.settings["weight_decay"] == 0.1
    training = Recover.of(from_step(step)).training(seed=0, still_norms=False)
    assert (training.optimizer, training.rate, training.weight_decay) == ("sgd", 0.02, 0.1)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("settings=there.toml", TrainingError, r"there\.toml holds no settings"),
        ("optimizer=adamv", TrainingError, r"there is no optimizer 'adamv'"),
        ("quickly", TrainingError, "'quickly' is not understood"),
        ("hours=3", TrainingError, "'hours=3' is not understood"),
        ("minutes=1,steps=5", TrainingError, r"steps and minutes both say how long"),
        ("minutes=-1", TrainingError, r"minutes = -1 is out of range"),
        ("strength=heavy", PlanError, r"strength = 'heavy'"),
        ("steps=0", TrainingError, r"steps = 0 is out of range"),
        ("labels=2", PlanError, r"labels = 2"),
    ],
)
def test_what_is_not_understood_is_an_error(text, kind, words):
    with pytest.raises(kind, match=words):
        Recover.parse(text)


def test_the_loss_is_zero_for_the_same_answers_and_knows_padding():
    wanted = torch.randn(4, 6, 8)
    mask = torch.ones(4, 6)
    mask[:, 4:] = 0
    other = wanted.clone()
    other[:, 4:] += 1
    assert output_loss(other, wanted, mask=mask) == 0 < output_loss(other, wanted, mask=None)
    scores = torch.randn(4, 10)
    assert float(output_loss(scores + 3, scores, mask=None)) == pytest.approx(0, abs=1e-6)
    assert float(output_loss(2 * scores, scores, mask=None)) > 0.01


def test_norms_are_restated_with_the_statistics_they_had():
    original = Small().eval()
    moved = copy.deepcopy(original).train()
    with torch.no_grad():
        for _ in range(5):
            moved(torch.rand(32, 1, 28, 28) * 2)
    moved.eval()
    values = torch.rand(8, 1, 28, 28)
    expected = moved(values)
    assert not torch.allclose(expected, original(values), atol=1e-3)
    restate_norms(moved, original)
    torch.testing.assert_close(moved(values), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(moved.norm1.running_mean, original.norm1.running_mean)
    assert torch.equal(moved.norm2.running_var, original.norm2.running_var)
    assert can_restate(moved)
    assert not can_restate(nn.Sequential(nn.BatchNorm1d(3, affine=False)))


def test_learned_steps_fit_half_precision_where_they_are_stored():
    grid = rounded(Small())["second.weight"]
    odd = replace(grid, row_steps=grid.row_steps * 1.0001234)
    factor = torch.rand(32) + 0.5
    found = half_steps({"a": odd, "b": Dense(factor)}, {"a": factor})["a"].row_steps
    stored = found.double() * factor.double()
    torch.testing.assert_close(stored.half().double(), stored, rtol=2e-7, atol=0)
    torch.testing.assert_close(found, odd.row_steps, rtol=6e-4, atol=0)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("strength", ["light", "full"])
def test_recovery_lowers_the_divergence_of_two_bits(strength):
    task = clothes()
    before, encodings = state_hash(task.model), rounded(task.model)
    found = recover(encodings, Recover(strength=strength, steps=80), ground=ground(task))
    first, best = found.learned.history[0].score, found.learned.best.score
    assert found.watched == "divergence" and found.better and best < 0.6 * first
    assert state_hash(task.model) == before
    held = Constrained(task.model, found.encodings).model
    near = Nearness(task, task.split(0).search[:256])
    assert near(held) == pytest.approx(best, rel=1e-3)
    codes = {name: found.encodings[name].codes for name in encodings}
    assert all(int(some.abs().max()) == 1 for some in codes.values())
    same = all(torch.equal(codes[name], grid.codes) for name, grid in encodings.items())
    assert same == (strength == "light")
    others = found.encodings.keys() - encodings.keys()
    assert {"norm1.weight", "head.bias"} <= others
    assert ("first.weight" in others) == (strength == "full")


@needs_data
@pytest.mark.slow
def test_an_interrupted_recovery_ends_like_one_that_was_not(tmp_path):
    task, how = clothes(), Recover(strength="full", steps=20)
    encodings, on = rounded(task.model), ground(task)
    whole = recover(encodings, how, ground=on)
    stopping = Surroundings(folder=tmp_path, stop=lambda moment: moment.step >= 8)
    cut = recover(encodings, how, ground=on, around=stopping)
    assert cut.learned.steps == 8
    rest = recover(encodings, how, ground=on, around=Surroundings(folder=tmp_path))
    assert rest.learned.resumed == 8 and rest.learned.steps == 20
    assert rest.encodings.keys() == whole.encodings.keys()
    for name, encoding in whole.encodings.items():
        assert torch.equal(rest.encodings[name].decode(), encoding.decode()), name


@needs_data
def test_what_is_missing_is_named():
    task = clothes(train=None)
    with pytest.raises(TrainingError, match=r"search examples, which say whether it helped"):
        split = replace(task.split(0), search=())
        recover({}, Recover(), ground=ground(task, split=split))
    with pytest.raises(TrainingError, match=r"light recovery needs calibration examples"):
        split = replace(task.split(0), calibration=())
        recover({}, Recover(), ground=ground(task, split=split))


def test_a_policy_of_augmentation_is_a_value_of_recovery_and_of_its_plan():
    given = Recover(epochs=2, strength="full", augmentation="flip, crop(padding=2)")
    text = "epochs=2,strength=full,augmentation=flip;crop(padding=2)"
    assert Recover.parse(text) == given and Recover.parse(str(given)) == given
    step = given.technique.step_of(())
    assert step.settings["augmentation"] == "flip, crop(padding=2)"
    assert given.training(seed=0, still_norms=False).augmentation == "flip, crop(padding=2)"
    with pytest.raises(PlanError, match="flop"):
        Recover(steps=3, augmentation="flop")
