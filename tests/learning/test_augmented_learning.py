"""The loop learns from augmented batches, each by a seed of its own."""

from dataclasses import replace

import pytest
import torch
from lessons_nets import Convolutional

from lilliput.errors import PlanError, TaskError
from lilliput.learning import Policy, Surroundings, Training, finetune
from lilliput.learning.lesson import Supervised

POLICY = "crop(padding=1), noise(decibels=15), mixup(alpha=0.4)"
FEW = Training(steps=40, batch_size=32, rate=0.05, every=10, augmentation=POLICY)


def weights(found):
    return torch.cat([value.flatten() for value in found.model.state_dict().values()])


def test_the_same_seed_gives_the_same_weights_and_no_augmentation_others(digits_task, tmp_path):
    torch.manual_seed(0)
    task = digits_task(Convolutional())
    one, two = (finetune(task, training=FEW) for _ in range(2))
    assert torch.equal(weights(one), weights(two)) and one.best.step > 10
    plain = finetune(task, training=replace(FEW, augmentation="none"))
    assert not torch.equal(weights(one), weights(plain))
    stopped = Surroundings(folder=tmp_path / "run", stop=lambda moment: moment.step == 10)
    finetune(task, training=FEW, around=stopped)
    went_on = finetune(task, training=FEW, around=Surroundings(folder=tmp_path / "run"))
    assert went_on.resumed == 10 and torch.equal(weights(one), weights(went_on))


def test_what_is_learned_from_is_what_the_policy_made(digits_task, monkeypatch):
    seen = []

    def loss(self, model, batch, *, targets):
        seen.append((batch.inputs, targets))
        return original(self, model, batch, targets=targets)

    original = Supervised.loss
    monkeypatch.setattr(Supervised, "loss", loss)
    task = digits_task(Convolutional())
    finetune(task, training=FEW)
    for inputs, targets in seen:
        assert inputs.shape == (32, 1, 8, 8) and len(targets) == 2
        assert sum(weight for _, weight in targets) == pytest.approx(1)
    assert len({weight for _, targets in seen for _, weight in targets[:1]}) == 40, "drawn anew"


def test_augmentation_helps_where_examples_are_few(digits, digits_task):
    """30 pictures: the same steps answer more unseen ones if they are turned and noisy."""
    torch.manual_seed(0)
    task = digits_task(Convolutional(), train=digits[:30])
    long = Training(steps=300, batch_size=30, rate=0.05, every=300)
    plain = finetune(task, training=long)
    moved = finetune(
        task, training=replace(long, augmentation="rotate(degrees=10), noise(decibels=12)")
    )
    assert moved.best.score > plain.best.score + 0.05


def test_what_does_not_fit_is_refused(digits_task):
    with pytest.raises(PlanError, match=r"unknown augmentation 'flipp'"):
        Training(augmentation="flipp")
    with pytest.raises(TaskError, match=r"drop_tokens takes one input of token numbers"):
        finetune(digits_task(), training=Training(steps=2, augmentation="drop_tokens"))
    assert Policy.parse(FEW.settings["augmentation"]).steps[0].padding == 1
