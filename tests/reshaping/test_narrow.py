"""The face: `lilliput.widths` and `lilliput.narrow`."""

import pytest
import torch
from tests.techniques.shaped import Encoder, made

import lilliput
from lilliput.errors import PlanError, ShapeError, TaskError
from lilliput.model.hashes import state_hash


@pytest.fixture
def encoder():
    return made(Encoder)


def test_widths_lists_what_can_be_cut_and_why_the_rest_cannot(encoder):
    model, inputs, _ = encoder
    found = {width.name: width for width in lilliput.widths(model, inputs)}
    assert found["up"].free and (found["up"].kind, found["up"].units) == ("neurons", 64)
    assert found["query"].kind == "heads"
    assert "it is the model's output" in found["last"].frozen


def test_narrow_returns_a_copy_with_every_free_width_halved(encoder):
    model, inputs, _ = encoder
    before = state_hash(model)
    smaller = lilliput.narrow(model, inputs, 0.5)
    assert type(smaller) is Encoder and smaller.heads == 2
    assert smaller.up.weight.shape == (32, 16) and smaller.enter.weight.shape == (16, 12)
    assert smaller(inputs).shape == model(inputs).shape
    assert state_hash(model) == before


def test_narrowed_has_the_proof_beside_it(encoder):
    model, inputs, batches = encoder
    found = lilliput.narrowed(model, inputs, 0.25, widths=["up"], calibration=batches)
    assert all(check.equal for check in found.checks) and len(found.kept.units["up"]) == 48
    same = lilliput.narrow(model, inputs, 0.25, widths="up", calibration=batches)
    assert torch.equal(found.model(inputs), same(inputs))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"remove": 0.0}, PlanError, "remove = 0.0: Input should be greater than 0"),
        ({"remove": 1.0}, PlanError, "remove = 1.0: Input should be less than 1"),
        ({"remove": -0.5}, PlanError, r"allowed is a number in \(0, 1\)"),
        ({"criterion": "magnitud"}, PlanError, "did you mean magnitude"),
        ({"scope": "globl"}, PlanError, "the nearest is global"),
        ({"multiples": 8}, PlanError, "did you mean multiple"),
        ({"widths": ["upp"]}, ShapeError, "no width 'upp'.*did you mean up"),
        ({"widths": ["last"]}, ShapeError, "last cannot be narrowed: it is the model's output"),
        ({"calibration": []}, TaskError, "no calibration examples"),
    ],
)
def test_bad_input_is_refused_and_nothing_changes(encoder, options, error, message):
    model, inputs, _ = encoder
    before = state_hash(model)
    with pytest.raises(error, match=message):
        lilliput.narrow(model, inputs, **options)
    assert state_hash(model) == before
