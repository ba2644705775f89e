"""replace_activation: modules in the user's class, code in the graph."""

import pytest
import torch
from tests.techniques.shaped import Encoder, Vision, made
from torch import Tensor, nn
from torch.nn import functional

from lilliput.errors import ShapeError
from lilliput.techniques import ReplaceActivation


def test_modules_are_replaced_in_the_users_class():
    model, inputs, batches = made(Vision)
    found = ReplaceActivation().change(model, inputs, batches=batches)
    assert found.how == "class"
    assert {block.act.approximate for block in found.model.blocks} == {"tanh"}
    one = ReplaceActivation(to="hardswish").change(model, inputs, where=("blocks.1.act",))
    kinds = [type(block.act) for block in one.model.blocks]
    assert kinds == [nn.GELU, nn.Hardswish, nn.GELU]


def test_an_activation_in_code_is_replaced_in_the_graph():
    model, inputs, batches = made(Encoder)
    found = ReplaceActivation(to="relu").change(model, inputs, batches=batches)
    called = {str(node.target) for node in found.model.graph.nodes}
    assert found.how == "graph" and "aten.relu.default" in called
    assert not any("gelu" in target for target in called)
    assert not torch.allclose(found.model(inputs), model(inputs), atol=1e-4)


class Gated(nn.Module):
    """SiLU in place and in code."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.down(functional.silu(self.up(x), inplace=True)))


def test_one_in_place_is_replaced_too():
    torch.manual_seed(0)
    model, inputs = Gated().eval(), torch.randn(4, 4)
    found = ReplaceActivation().change(model, inputs)
    wanted = functional.gelu(model.down(functional.hardswish(model.up(inputs))), approximate="tanh")
    assert torch.allclose(found.model(inputs), wanted, atol=1e-6)
    assert "silu, gelu replaced the outputs diverge by" in found.notes[0]


def test_what_has_no_such_form_is_refused():
    with pytest.raises(ShapeError, match="silu has no tanh form"):
        ReplaceActivation(to="tanh").change(Gated().eval(), torch.randn(4, 4), where=("silu",))
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(approximate="tanh")).eval()
    with pytest.raises(ShapeError, match="1 cannot be replaced: it has the tanh form already"):
        ReplaceActivation().change(model, torch.randn(4, 4), where=("1",))
