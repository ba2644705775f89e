import math

import pytest
import torch
from torch import nn

from lilliput.errors import TaskError
from lilliput.metrics import Accuracy, Agreement
from lilliput.task import Task
from lilliput.validation import check_task


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.layer(x))


class FixedBatch(Net):
    def forward(self, x):
        return self.layer(x).reshape(1, 3)


class Mean(Net):
    def forward(self, x):
        return self.layer(x).mean(0)


class Nan(Net):
    def forward(self, x):
        return self.layer(x) * math.nan


def examples(labels=(0, 1, 2)):
    values = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    return [(x, labels[i % len(labels)]) for i, x in enumerate(values)]


def test_a_good_task_is_left_as_it_was():
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert check_task(Task(model=model, examples=examples(), metric="accuracy")) == Accuracy()
    assert check_task(Task(model=model, examples=examples())) == Agreement()
    assert check_task(Task(model=model, example_inputs=torch.zeros(3, 4))) is None
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_weights_that_are_not_finite_are_named(value, word):
    model = Net()
    model.layer.weight.data[1, 2] = value
    with pytest.raises(TaskError, match=f"parameter layer.weight holds {word} values"):
        check_task(Task(model=model, examples=examples()))


def test_buffers_that_are_nan_are_named():
    model = Net()
    model.norm.running_var[0] = math.nan
    with pytest.raises(TaskError, match=r"buffer norm\.running_var holds NaN"):
        check_task(Task(model=model, examples=examples()))


def test_outputs_that_are_nan():
    with pytest.raises(TaskError, match="output is NaN on its own examples"):
        check_task(Task(model=Nan(), examples=examples()))


def test_a_model_that_takes_only_one_example():
    with pytest.raises(TaskError, match=r"called as model\(x\) on 8 examples of shape \(8, 4\)"):
        check_task(Task(model=FixedBatch(), examples=examples()))


def test_a_model_that_fails_names_how_it_was_called():
    wrong = [({"y": x}, label) for x, label in examples()]
    with pytest.raises(TaskError, match=r"called as model\(y=\.\.\.\) on 1 example .*TypeError"):
        check_task(Task(model=Net(), examples=wrong))


def test_an_output_without_the_batch():
    with pytest.raises(
        TaskError, match=r"output has shape \(3,\) for 1 example.*must be the batch"
    ):
        check_task(Task(model=Mean(), examples=examples()))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((0, 3), "label 3 is out of range, the model has 3 classes"),
        ((0.0, 1.0), "labels must be integers, got float32"),
        ((torch.tensor([1, 0]),), r"labels have shape \(8, 2\)"),
        ((None,), "needs a target for every example"),
        ((1, None), "some examples have a target and some have none"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(TaskError, match=message):
        check_task(Task(model=Net(), examples=examples(labels), metric="accuracy"))
