import pytest
import torch
from lessons_nets import Convolutional, Perceptron
from torch import nn

from lilliput import Task
from lilliput.errors import TaskError, TrainingError
from lilliput.learning import Reach, Training, finetune

FEW = Training(steps=40, batch_size=64, rate=0.01)


def changed(task, found):
    before = dict(task.model.named_parameters())
    after = dict(found.model.named_parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_only_the_head_learns(digits_task):
    task = digits_task(Convolutional())
    found = finetune(task, training=FEW, reach="head")
    assert changed(task, found) == {"head.weight", "head.bias"}
    assert "learned: 2 tensors of head" in found.notes


def test_only_the_last_blocks_learn(digits_task):
    task = digits_task(Convolutional())
    found = finetune(task, training=FEW, reach=Reach(part="last", last=2))
    learned = changed(task, found)
    assert all(name.startswith(("blocks.1", "blocks.2", "head")) for name in learned)
    assert {"blocks.1.conv.weight", "blocks.2.norm.bias", "head.bias"} <= learned


def test_named_modules_learn(digits_task):
    task = digits_task(Convolutional())
    assert changed(task, finetune(task, training=FEW, reach="stem, head")) == {
        "stem.weight",
        "stem.bias",
        "head.weight",
        "head.bias",
    }


def test_adapters_are_merged_and_of_low_rank(digits_task):
    task = digits_task()
    found = finetune(task, training=FEW, reach=Reach(part="adapters", rank=2))
    assert set(found.model.state_dict()) == set(task.model.state_dict())
    difference = found.model.body[1].weight - task.model.body[1].weight
    assert int(torch.linalg.matrix_rank(difference.detach(), rtol=1e-4)) == 2
    assert changed(task, found) == {"body.1.weight", "head.weight"}


def test_layers_far_from_the_head_learn_slower(digits_task):
    task = digits_task()
    training = Training(steps=1, optimizer="sgd", rate=0.1, weight_decay=0.0, warmup=0.0, clip=0)
    moved = {}
    for decay in (1.0, 0.25):
        found = finetune(task, training=Training(**training.settings, layer_decay=decay))
        before = dict(task.model.named_parameters())
        after = dict(found.model.named_parameters())
        moved[decay] = {name: (after[name] - before[name]).norm().item() for name in before}
    assert moved[0.25]["head.weight"] == pytest.approx(moved[1.0]["head.weight"], rel=1e-3)
    body = moved[0.25]["body.1.weight"] / moved[1.0]["body.1.weight"]
    assert body == pytest.approx(0.25, rel=1e-2)


def test_a_new_head_learns_a_new_task(digits_task, digits):
    trained = finetune(digits_task(), training=Training(epochs=3, rate=0.02)).model
    parity = [(x, 2 * (y % 2) + (y > 4)) for x, y in digits]
    task = Task(
        model=trained,
        metric="accuracy",
        train=parity[:1000],
        calibration=parity[1000:1100],
        search=parity[1100:1400],
        proof=parity[1400:],
    )
    found = finetune(task, training=Training(epochs=5, rate=0.05), reach="head", classes=4)
    assert found.model.head.weight.shape == (4, 32) and trained.head.weight.shape == (10, 32)
    assert torch.equal(found.model.body[1].weight, trained.body[1].weight)
    assert found.best.score > 0.75


def test_examples_that_prove_do_not_train(digits_task, digits):
    task = digits_task(train=[*digits[:100], *digits[1400:1410]])
    found = finetune(task, training=Training(steps=1))
    assert "10 of 110 training examples also steer or prove: they were left out" in found.notes
    with pytest.raises(TrainingError, match="no training examples left"):
        finetune(digits_task(train=digits[1400:1410]), training=FEW)


def test_texts_of_unequal_length_are_padded_or_kept_apart():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(30, 8), nn.Linear(8, 2)

        def forward(self, words):
            return self.head(self.table(words).mean(1))

    generator = torch.Generator().manual_seed(0)

    def text(place):
        length = 3 + place % 4
        words = torch.randint(0, 30, (length,), generator=generator)
        return words, int((words > 14).sum() * 2 > length)

    texts = [text(place) for place in range(300)]
    task = Task(model=Words(), metric="accuracy", train=texts[:200], examples=texts[200:])
    found = finetune(task, training=Training(epochs=8, rate=0.05, batch_size=16))
    assert found.history[0].score < 0.75 < 0.85 < found.best.score


@pytest.mark.parametrize(
    ("fields", "given", "error", "told"),
    [
        ({"train": None}, {}, TrainingError, "fine-tuning needs labelled training examples"),
        ({}, {"reach": "hed"}, TrainingError, "no module 'hed'.*the nearest is head"),
        ({}, {"classes": 1}, TrainingError, "classes = 1 is out of range"),
    ],
)
def test_bad_input_is_told(digits_task, fields, given, error, told):
    with pytest.raises(error, match=told):
        finetune(digits_task(**fields), training=FEW, **given)


def test_a_label_out_of_range_is_named(digits_task, digits):
    wrong = [*digits[:20], (digits[20][0], 12)]
    with pytest.raises(TaskError, match=r"label 12 is out of range, the model has 10 classes"):
        finetune(digits_task(train=wrong), training=Training(epochs=1, batch_size=21))


def test_unlabelled_training_examples_are_refused_where_labels_are_needed(digits_task, digits):
    with pytest.raises(TrainingError, match="needs a target for every training example"):
        finetune(digits_task(train=[x for x, _ in digits[:50]]), training=FEW)


def test_a_head_of_another_kind_is_refused(digits_task):
    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(10, 64) / 8)

        def forward(self, x):
            return x.flatten(1) @ self.weight.t()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = Custom()

        def forward(self, x):
            return self.head(x)

    with pytest.raises(TrainingError, match="the head head is a Custom"):
        finetune(digits_task(Net()), training=FEW, classes=4)


def test_a_loss_of_ones_own_must_be_a_scalar(digits_task):
    task = digits_task(loss=lambda outputs, targets: (outputs.argmax(1) != targets).float())
    with pytest.raises(TrainingError, match="must be a scalar"):
        finetune(task, training=FEW)


def test_the_task_goes_on_with_the_trained_model(digits_task):
    task = digits_task(Perceptron(8))
    found = finetune(task, training=FEW)
    assert found.task(task).model is found.model and found.task(task).proof is task.proof
