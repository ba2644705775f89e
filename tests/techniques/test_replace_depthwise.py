"""replace_depthwise: exact where the rank allows, proved against the composed kernels."""

import pytest
import torch
from tests.techniques.shaped import Convolutional, Vision, made
from torch import nn

from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from lilliput.techniques import ReplaceDepthwise
from lilliput.tensor.separable import joined


def divergence(found):
    return float(found.notes[0].split(" diverge by ")[1].split()[0])


def test_a_kernel_of_rank_one_is_replaced_exactly():
    model, inputs, batches = made(Vision)
    generator = torch.Generator().manual_seed(0)
    depth = torch.randn(16, 1, 3, 3, generator=generator)
    points = torch.randn(32, 16, 1, 1, generator=generator) / 16
    model.second.weight.data = joined(depth, points, inside=16)
    found = ReplaceDepthwise().change(model, inputs, where=("second",), batches=batches)
    first, last = found.model.second
    assert (first.groups, first.stride, last.kernel_size) == (16, (3, 3), (1, 1))
    assert torch.equal(last.bias, model.second.bias)
    assert torch.allclose(found.model(inputs), model(inputs), atol=1e-4)


def test_more_kernels_per_channel_are_nearer_and_named_layers_only_change():
    model, inputs, batches = made(Vision)
    found = [
        ReplaceDepthwise(rank=rank).change(model, inputs, where=("second",), batches=batches)
        for rank in (1, 3, 5)
    ]
    costs = [divergence(one) for one in found]
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.2 * costs[0]
    before, after = model.state_dict(), found[0].model.state_dict()
    assert {n for n in before if n not in after} == {"second.weight", "second.bias"}
    assert all(torch.equal(before[n], after[n]) for n in before if n in after)


def test_padding_of_a_users_own_class_is_kept():
    class Padded(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(nn.functional.pad(x, (1, 2, 0, 1)))

    torch.manual_seed(0)
    model = nn.Sequential(Padded(8, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    found = ReplaceDepthwise().change(model, torch.randn(4, 8, 9, 9))
    assert isinstance(found.model[0][0], Padded) and all(check.equal for check in found.checks)


@pytest.mark.parametrize(
    ("build", "rank", "name", "message"),
    [
        (Convolutional, 1, "depth", "depth cannot be replaced: it is depthwise already"),
        (Convolutional, 1, "expand", "expand cannot be replaced: its kernel has one tap"),
        (Vision, 10, "second", "rank 10 is more than its kernels have, 9"),
        (Vision, 9, "second", "at rank 9 it would not be smaller"),
        (Vision, 1, "secnd", r"no convolution 'secnd' .did you mean second"),
    ],
)
def test_what_cannot_be_replaced_is_refused_by_name(build, rank, name, message):
    model, inputs, batches = made(build)
    before = state_hash(model)
    with pytest.raises(ShapeError, match=message):
        ReplaceDepthwise(rank=rank).change(model, inputs, where=(name,), batches=batches)
    assert state_hash(model) == before
