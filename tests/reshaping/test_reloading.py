"""What stands in the place of blocks and layers, put into a fresh instance of the class."""

import pytest
import torch
from tests.techniques.shaped import Vision, made

import lilliput
from lilliput.rebuilding import apply_edits, edits_between

MADE = {
    "drop": lambda model, x: lilliput.shorten(model, x),
    "linear": lambda model, x: lilliput.shorten(model, x, by="linear", rank=3),
    **{
        by: lambda model, x, by=by: lilliput.replace(model, x, by=by)
        for by in ("activation", "depthwise", "key_value_groups", "norm", "stack")
    },
}


@pytest.mark.parametrize("how", MADE)
def test_a_fresh_instance_takes_the_shape(how):
    model, inputs, _ = made(Vision)
    changed = MADE[how](model, inputs)
    fresh = made(Vision)[0]
    apply_edits(fresh, edits_between(model, changed), state=changed.state_dict())
    fresh.load_state_dict(changed.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs), changed(inputs))
