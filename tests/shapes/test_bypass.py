"""Blocks replaced by maps: proved against the graph in which they are bypassed."""

import pytest
import torch
from tests.shapes.test_blocks import Stages, Written
from tests.techniques.shaped import Vision, made
from torch import Tensor, nn

from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from lilliput.shapes.blocks import blocks_of
from lilliput.shapes.bypass import bypass
from lilliput.shapes.standins import LinearStream, StandIn
from lilliput.shapes.widths import shape_of


def bypassed(model, inputs, names, instead=nn.Identity):
    shape = shape_of(model.eval(), inputs)
    blocks = blocks_of(shape.captured)
    return bypass(model, shape, maps={blocks[name]: instead() for name in names}, inputs=inputs)


def linear(channels, *, second=False):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(channels, channels, generator=generator) / channels
    return LinearStream([weight], torch.ones(channels), second=second)


def test_a_module_is_replaced_in_the_users_class_and_the_keys_keep_their_names():
    model, inputs, _ = made(Vision)
    before = state_hash(model)
    found = bypassed(model, inputs, ["blocks.1"])
    assert found.how == "class" and type(found.model) is Vision
    assert isinstance(found.model.blocks[1], StandIn)
    left = {name for name in model.state_dict() if not name.startswith("blocks.1.")}
    assert set(found.model.state_dict()) == left
    model.blocks[1] = nn.Identity()
    assert torch.equal(found.model(inputs), model(inputs))
    model, _, _ = made(Vision)
    assert state_hash(model) == before


def test_a_part_of_a_module_leaves_the_graph_which_can_still_be_trained():
    model, inputs, _ = made(Vision)
    found = bypassed(model, inputs, ["blocks.0.down", "blocks.2"])
    assert found.how == "graph" and all(check.equal for check in found.checks)
    kept = set(found.model.state_dict())
    assert "blocks.0.out.weight" in kept
    assert not {"blocks.0.down.weight", "blocks.0.up.weight", "blocks.2.out.weight"} & kept
    found.model.train()(inputs).square().sum().backward()
    assert all(one.grad is not None for one in found.model.parameters())


def test_neighbours_in_code_go_together():
    torch.manual_seed(0)
    model, inputs = Written().eval(), torch.randn(2, 4)
    found = bypassed(model, inputs, ["steps.0", "steps.1"])
    x = model.enter(inputs)
    x = x + model.steps[2](x).relu()
    assert torch.allclose(found.model(inputs), model.last(x.relu()), atol=1e-6)


@pytest.mark.parametrize("name", ["first.0", "second.1"])
def test_a_map_takes_the_place_of_a_convolutional_block(name):
    torch.manual_seed(0)
    model, inputs = Stages().eval(), torch.randn(2, 3, 8, 8)
    channels = 8 if name == "first.0" else 16
    found = bypassed(model, inputs, [name], lambda: linear(channels, second=True))
    assert found.how == "class" and all(check.equal for check in found.checks)
    assert len(found.checks) == 2 and any(p.ndim == 2 for p in found.model.parameters())


def test_a_layer_that_returns_a_tuple_is_replaced_by_one_that_does():
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, mask: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            inner = self.inner(hidden * mask).relu()
            return hidden + inner, inner

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(3))

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            for layer in self.layers:
                x, _ = layer(mask, hidden=x)
            return x.sigmoid()

    torch.manual_seed(0)
    model, inputs = Layers().eval(), (torch.randn(2, 8), torch.rand(2, 8))
    found = bypassed(model, inputs, ["layers.0", "layers.2"])
    assert found.how == "class"
    stand_in = found.model.layers[0]
    assert (stand_in.argument, stand_in.place, stand_in.count) == ("hidden", 0, 2)
    assert torch.allclose(found.model(*inputs), model.layers[1](inputs[1], inputs[0])[0].sigmoid())


def test_a_sum_in_place_on_the_stream_is_bypassed_too():
    class InPlace(Written):
        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x)
            for step in self.steps:
                x += step(x).relu()
            return self.last(x)

    torch.manual_seed(0)
    model, inputs = InPlace().eval(), torch.randn(2, 4)
    found = bypassed(model, inputs, ["steps.1"])
    x = model.enter(inputs)
    x = x + model.steps[0](x).relu()
    x = x + model.steps[2](x).relu()
    assert torch.allclose(found.model(inputs), model.last(x), atol=1e-6)


def test_a_block_and_its_part_cannot_both_go():
    model, inputs, _ = made(Vision)
    with pytest.raises(ShapeError, match=r"blocks\.1 and blocks\.1\.out are parts of each other"):
        bypassed(model, inputs, ["blocks.1", "blocks.1.out"])
