"""The face: `lilliput.shrink_to`, a student that inherits the weights of its teacher."""

import copy

import pytest
import torch
from tests.techniques.shaped import Vision, made

import lilliput
from lilliput.errors import PlanError, ShapeError
from lilliput.model.hashes import state_hash


@pytest.fixture
def vision():
    """A model whose first two blocks do nothing, one example batch, calibration batches."""
    model, inputs, batches = made(Vision)
    with torch.no_grad():
        for block in model.blocks[:2]:
            for layer in (block.out, block.down):
                layer.weight.zero_()
                layer.bias.zero_()
    return model, inputs, batches


def inherited(student, teacher):
    """Names of the teacher's weights that the student holds bit for bit."""
    whole = teacher.state_dict()
    return {name for name, one in student.state_dict().items() if torch.equal(one, whole[name])}


def test_measured_drops_the_blocks_whose_absence_changes_least(vision):
    model, inputs, batches = vision
    before = state_hash(model)
    student = lilliput.shrink_to(
        model, inputs, 1.0, depth=0.34, choice="measured", calibration=batches
    )
    gone = ("blocks.0.", "blocks.1.")
    assert inherited(student, model) == {n for n in model.state_dict() if not n.startswith(gone)}
    with torch.no_grad():
        assert torch.allclose(student(inputs), model(inputs), atol=1e-6)
    assert state_hash(model) == before


def test_evenly_drops_blocks_far_from_each_other_whatever_they_do(vision):
    model, inputs, _ = vision
    student = lilliput.shrink_to(model, inputs, 1.0, depth=0.34)
    gone = ("blocks.0.", "blocks.2.")
    assert inherited(student, model) == {n for n in model.state_dict() if not n.startswith(gone)}
    with torch.no_grad():
        assert not torch.allclose(student(inputs), model(inputs), atol=1e-2)


def test_units_that_stay_hold_the_weights_they_had(vision):
    model, inputs, _ = vision
    student = lilliput.shrink_to(model, inputs, 0.5, refit="none")
    assert student.stem.out_channels == 8 and student.second.in_channels == 8
    first, second = model.stem.weight, model.second.weight
    same = (student.stem.weight[:, None] == first[None]).flatten(2).all(-1)  # (8, 16)
    stay = same.int().argmax(1)
    assert same.any(1).all() and len(set(stay.tolist())) == 8
    assert torch.equal(student.stem.bias, model.stem.bias[stay])
    rows = (student.second.weight[:, None] == second[:, stay][None]).flatten(2).all(-1)
    assert rows.any(1).all()


def test_fewer_blocks_then_narrower_ones(vision):
    model, inputs, batches = vision
    found = lilliput.shrunk_to(
        model,
        inputs,
        0.5,
        depth=0.34,
        choice="measured",
        criterion="activation",
        calibration=batches,
    )
    assert found.how == "class" and found.model.blocks[2].up.weight.shape == (32, 16)
    assert found.notes[0].startswith("without blocks.")
    found.model(inputs).square().mean().backward()
    assert found.model.blocks[2].up.weight.grad.abs().sum() > 0
    alike = copy.deepcopy(model)
    again = lilliput.shrink_to(
        alike,
        inputs,
        0.5,
        depth=0.34,
        choice="measured",
        criterion="activation",
        calibration=batches,
    )
    assert state_hash(again) == state_hash(found.model)


@pytest.mark.parametrize(
    ("width", "options", "error", "message"),
    [
        (0.0, {}, PlanError, r"width = 0 is out of range .*\(0, 1\]"),
        (1.5, {}, PlanError, "width = 1.5 is out of range"),
        (float("nan"), {}, PlanError, "width = nan is out of range"),
        (0.5, {"depth": 0.0}, PlanError, "depth = 0 is out of range"),
        (1.0, {}, PlanError, "nothing is to shrink"),
        (1.0, {"depth": 0.9}, PlanError, "a depth of 0.9 drops none of 3 blocks"),
        (
            0.5,
            {"choice": "measurd", "depth": 0.5},
            PlanError,
            "choice = .measurd.* evenly, measured",
        ),
        (0.5, {"criterion": "magnitud"}, PlanError, "did you mean narrow_magnitude"),
        (0.5, {"refitt": "none"}, PlanError, "did you mean refit"),
    ],
)
def test_wrong_arguments_are_refused(vision, width, options, error, message):
    model, inputs, _ = vision
    before = state_hash(model)
    with pytest.raises(error, match=message):
        lilliput.shrink_to(model, inputs, width, **options)
    assert state_hash(model) == before


def test_a_model_without_blocks_cannot_be_shorter():
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    with pytest.raises(ShapeError, match="no repeated blocks"):
        lilliput.shrink_to(model.eval(), torch.randn(2, 8), 0.5, depth=0.5)
