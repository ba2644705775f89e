"""replace_stack: small kernels one after the other, one linear map up to the border."""

import pytest
import torch
from tests.techniques.shaped import Convolutional, Vision, made
from torch import nn

from lilliput.errors import ShapeError
from lilliput.techniques import ReplaceStack
from lilliput.tensor.stacks import composed


def divergence(found):
    return float(found.notes[0].split(" diverge by ")[1].split()[0])


def test_a_kernel_of_five_becomes_two_of_three():
    model, inputs, batches = made(Vision)
    found = ReplaceStack(remove=0.25).change(model, inputs, batches=batches)
    first, last = found.model.stem
    assert first.kernel_size == last.kernel_size == (3, 3)
    assert (first.padding, last.padding) == ((2, 2), (0, 0))
    size = first.weight.numel() + last.weight.numel()
    assert 0.6 * 1200 < size <= 0.75 * 1200 and all(check.equal for check in found.checks)
    whole = composed(first.weight, last.weight)
    for leaf, value in (("weight", whole), ("bias", model.stem.bias)):
        setattr(model.stem, leaf, nn.Parameter(value.detach()))
    assert torch.allclose(found.model(inputs), model(inputs), atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_a_kernel_of_seven_becomes_three_whatever_the_padding(padding, mode):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 7, padding=padding, padding_mode=mode)
    model = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()
    found = ReplaceStack().change(model, torch.randn(4, 4, 12, 12))
    assert len(found.model[0]) == 3 and all(check.equal for check in found.checks)


def test_removing_less_is_nearer():
    model, inputs, batches = made(Vision)
    costs = [
        divergence(ReplaceStack(remove=remove).change(model, inputs, batches=batches))
        for remove in (0.75, 0.5, 0.1)
    ]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (Vision, "second", "second cannot be replaced: its kernel is not square of an odd size"),
        (Convolutional, "depth", "depth cannot be replaced: it is depthwise already"),
    ],
)
def test_what_cannot_be_replaced_is_refused_by_name(build, name, message):
    model, inputs, batches = made(build)
    with pytest.raises(ShapeError, match=message):
        ReplaceStack().change(model, inputs, where=(name,), batches=batches)


def test_a_strided_convolution_stays():
    model = nn.Sequential(nn.Conv2d(4, 6, 5, stride=2), nn.ReLU()).eval()
    with pytest.raises(ShapeError, match="its stride would make the first of the stack work on"):
        ReplaceStack().change(model, torch.randn(4, 4, 12, 12), where=("0",))
