"""shorten_linear: the least-squares map of a block, exact where the block is linear."""

import pytest
import torch
from tests.techniques.shaped import Vision, made
from torch import Tensor, nn

from lilliput.shapes.standins import LinearStream
from lilliput.techniques import ShortenDrop, ShortenLinear


class Steps(nn.Module):
    """Three residual convolutions, the second of them linear."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList(Step(linear=n == 1) for n in range(3))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return self.last(x.mean((2, 3)))


class Step(nn.Module):
    def __init__(self, *, linear: bool) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(6, 6, 1), linear

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv(x)
        return x + (inner if self.linear else inner.relu())


def divergence(found):
    return float(found.notes[0].split(" diverge by ")[1].split()[0])


def test_a_linear_block_is_found_and_replaced_by_itself():
    torch.manual_seed(0)
    model = Steps().eval()
    batches = [torch.randn(8, 6, 5, 5) for _ in range(8)]
    found = ShortenLinear().change(model, batches[0], batches=batches)
    fitted = found.model.steps[1].instead
    assert isinstance(fitted, LinearStream) and found.how == "class"
    wanted = model.steps[1].conv.weight[:, :, 0, 0]
    assert torch.allclose(fitted.linear[0].weight, wanted, atol=0.02)
    assert divergence(found) < 1e-4


def test_a_map_costs_less_than_nothing_in_its_place():
    model, inputs, batches = made(Vision)
    mapped = ShortenLinear(blocks=2).change(model, inputs, batches=batches)
    gone = ShortenDrop(blocks=2).change(model, inputs, batches=batches)
    assert divergence(mapped) < 0.5 * divergence(gone)
    assert all(check.equal for check in mapped.checks)


@pytest.mark.parametrize("rank", [1, 4])
def test_a_map_of_lower_rank_is_two_products(rank):
    model, inputs, batches = made(Vision)
    found = ShortenLinear(rank=rank).change(model, inputs, where=("blocks.0",), batches=batches)
    first, last = found.model.blocks[0].instead.linear
    assert first.weight.shape == (rank, 32) and last.weight.shape == (32, rank)
