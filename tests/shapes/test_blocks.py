"""Blocks found on the graph: modules, parts of modules, stages, and what has to stay."""

import pytest
import torch
from tests.techniques.shaped import Block, Vision, made
from torch import Tensor, nn

from lilliput.errors import ShapeError
from lilliput.model.capture import capture
from lilliput.shapes.blocks import blocks_of, named_block, outermost


class Basic(nn.Module):
    """A sum with a shortcut, a rectifier behind it; the shortcut projects where it must."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.two, self.norm = nn.Conv2d(out, out, 3, 1, 1), nn.BatchNorm2d(out)
        self.short = nn.Conv2d(inside, out, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.two(self.one(x).relu()))
        y += x if self.short is None else self.short(x)
        return y.relu()


class Stages(nn.Module):
    """Two stages of two blocks each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.first = nn.Sequential(Basic(8, 8, 1), Basic(8, 8, 1))
        self.second = nn.Sequential(Basic(8, 16, 2), Basic(16, 16, 1))
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(self.stem(x))).mean((2, 3)))


class Written(nn.Module):
    """Residuals written out in one forward; the rectifier at the end belongs to none."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for step in self.steps:
            x = x + step(x).relu()
        return self.last(x.relu())


class Watched(Written):
    """The inside of the second residual is an output too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(x)
        x = x + self.steps[0](x)
        inner = self.steps[1](x)
        x = x + inner.relu()
        return self.last(x), inner


def found(model, inputs):
    return blocks_of(capture(model.eval(), inputs, smallest=1))


def test_modules_of_two_residuals_are_blocks_and_their_halves_are_parts_of_them():
    model, inputs, _ = made(Vision)
    blocks = found(model, inputs)
    whole = [one.name for one in outermost(blocks)]
    assert whole == ["blocks.0", "blocks.1", "blocks.2"]
    one = blocks["blocks.1"]
    assert one.module and one.alike == tuple(whole) and one.size == (None, 16, 32)
    assert one.parameters == sum(p.numel() for p in model.blocks[1].parameters())
    parts = [part for part in blocks.values() if part.within == "blocks.1"]
    assert [part.name for part in parts] == ["blocks.1.out", "blocks.1.down"]
    assert not any(part.module for part in parts)
    shares = [block.share for block in outermost(blocks)]
    assert shares[0] == shares[1] == shares[2] and 0.1 < sum(shares) < 1


def test_a_norm_behind_the_sum_belongs_to_the_block():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    blocks = found(nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 16))
    assert [one.name for one in outermost(blocks)] == ["layers.0", "layers.1"]
    assert blocks["layers.0.linear2"].within == "layers.0"
    norms = [name for name in blocks["layers.1"].inside if name.startswith("layer_norm")]
    assert len(norms) == 2


def test_a_block_of_other_sizes_is_listed_with_the_reason_and_a_stage_is_none():
    blocks = found(Stages(), torch.randn(2, 3, 8, 8))
    assert list(blocks) == ["first.0", "first.1", "second.0", "second.1"]
    assert blocks["second.0"].frozen == "it turns * x 8 x 8 x 8 into * x 16 x 4 x 4"
    assert blocks["first.0"].alike == ("first.0", "first.1")
    assert str(blocks["second.0"]).startswith("second.0: * x 16 x 4 x 4 (frozen: it turns")
    with pytest.raises(ShapeError, match=r"second\.0 cannot go: it turns"):
        named_block(blocks, "second.0")


def test_residuals_in_code_are_blocks_named_by_their_layers():
    blocks = found(Written(), torch.randn(2, 4))
    assert list(blocks) == ["steps.0", "steps.1", "steps.2"]
    assert all(not one.module and one.exit.startswith("add") for one in blocks.values())


def test_a_block_whose_inside_is_read_elsewhere_has_to_stay():
    blocks = found(Watched(), torch.randn(2, 4))
    assert blocks["steps.0"].free
    assert "the model's output reads linear inside of it" in blocks["steps.1"].frozen


def test_a_module_that_is_called_twice_is_two_blocks():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.last = Block(8, 2), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.block(self.block(x)))

    blocks = found(Twice(), torch.randn(2, 5, 8))
    assert [one.name for one in outermost(blocks)] == ["block", "block#2"]
    assert not any(one.module for one in outermost(blocks))
    assert blocks["block"].parameters == 0  # the other call reads them


def test_an_unknown_block_is_named_with_the_nearest():
    blocks = found(Stages(), torch.randn(2, 3, 8, 8))
    with pytest.raises(ShapeError, match=r"no block 'frist\.1' .did you mean first\.1"):
        named_block(blocks, "frist.1")
