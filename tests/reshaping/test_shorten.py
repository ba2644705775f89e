"""The face: `lilliput.blocks` and `lilliput.shorten`."""

import pytest
import torch
from tests.techniques.shaped import Vision, made

import lilliput
from lilliput.errors import PlanError, ShapeError
from lilliput.model.hashes import state_hash


@pytest.fixture
def vision():
    return made(Vision)


def test_blocks_lists_what_can_go(vision):
    model, inputs, _ = vision
    found = {block.name: block for block in lilliput.blocks(model, inputs)}
    assert found["blocks.0"].free and found["blocks.0.down"].within == "blocks.0"


def test_shorten_returns_a_copy_with_fewer_blocks(vision):
    model, inputs, batches = vision
    before = state_hash(model)
    shorter = lilliput.shorten(model, inputs, names=["blocks.0", "blocks.2"])
    kept = {name for name in model.state_dict() if not name.startswith(("blocks.0", "blocks.2"))}
    assert type(shorter) is Vision and set(shorter.state_dict()) == kept
    assert state_hash(model) == before and torch.isfinite(shorter(inputs)).all()
    found = lilliput.shortened(model, inputs, blocks=0.4, by="linear", calibration=batches)
    assert found.notes[0].startswith("without blocks.")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"blocks": 1.5}, PlanError, "a share lies in"),
        ({"blocks": True}, PlanError, "a number of blocks, or a share"),
        ({"blocks": 0}, PlanError, "greater than or equal to 1"),
        ({"by": "dorp"}, PlanError, "unknown technique 'shorten_dorp' .did you mean shorten_drop"),
        ({"names": "blocks.9"}, ShapeError, "no block 'blocks.9'"),
    ],
)
def test_wrong_arguments_are_refused(vision, options, error, message):
    model, inputs, _ = vision
    with pytest.raises(error, match=message):
        lilliput.shorten(model, inputs, **options)
