"""Which units the criteria remove, on a network where it is known which ones do not matter."""

import pytest
import torch
from torch import Tensor, nn

from lilliput.techniques import TABLE, NarrowActivation, NarrowMagnitude, NarrowSecondOrder
from lilliput.tensor.removal import kept_units, left

NARROWING = [kind for kind in TABLE if kind.family == "narrow"]


class Planted(nn.Module):
    """Of 24 neurons every third one matters: the others are small in all respects."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.enter, self.leave = nn.Linear(10, 24), nn.Linear(24, 6)
        small = [unit for unit in range(24) if unit % 3]
        with torch.no_grad():
            self.enter.weight[small] *= 0.1
            self.enter.bias[small] *= 0.1
            self.leave.weight[:, small] *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu())


def batches():
    made = torch.Generator().manual_seed(0)
    return [torch.randn(32, 10, generator=made) for _ in range(4)]


@pytest.mark.parametrize("kind", NARROWING, ids=lambda kind: kind.name)
def test_units_that_matter_stay(kind):
    data = batches()
    technique = kind(remove=2 / 3, multiple=1)
    found = technique.change(Planted(), data[0], batches=data)
    assert found.kept.units["enter"].tolist() == list(range(0, 24, 3))
    with torch.no_grad():
        new = torch.randn(200, 10, generator=torch.Generator().manual_seed(9))
        error = (found.model(new) - Planted()(new)).norm() / Planted()(new).norm()
    assert float(error) < 0.05


class Alike(nn.Module):
    """Eight neurons that repeat each other in pairs, and four smaller ones that do not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.enter, self.leave = nn.Linear(10, 12), nn.Linear(12, 6)
        with torch.no_grad():
            self.enter.weight[4:8] = self.enter.weight[:4]
            self.enter.bias[4:8] = self.enter.bias[:4]
            self.enter.weight[8:] *= 0.7
            self.enter.bias[8:] *= 0.7

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu())


def test_second_order_removes_what_others_can_absorb():
    data, errors = batches(), {}
    new = torch.randn(200, 10, generator=torch.Generator().manual_seed(9))
    for kind in (NarrowSecondOrder, NarrowMagnitude, NarrowActivation):
        found = kind(remove=1 / 3, multiple=1).change(Alike(), data[0], batches=data)
        with torch.no_grad():
            errors[kind] = float((found.model(new) - Alike()(new)).norm() / Alike()(new).norm())
        if kind is NarrowSecondOrder:
            gone = set(range(12)) - set(found.kept.units["enter"].tolist())
            assert {unit % 4 for unit in gone} == {0, 1, 2, 3} and max(gone) < 8
    assert errors[NarrowSecondOrder] < 0.03 < errors[NarrowMagnitude]


def test_what_is_refitted_and_what_is_not_is_noted():
    data = batches()
    found = NarrowMagnitude().change(Planted(), data[0], batches=data)
    assert found.notes == ("fitted anew after the proof: leave.weight",)
    assert NarrowMagnitude(refit="none").change(Planted(), data[0]).notes == ()


def test_inputs_of_several_lengths_are_taken():
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    data = [torch.randn(3, length, 4) for length in (5, 9, 7)]
    found = NarrowSecondOrder().change(model, data[0], batches=data)
    assert found.model(data[1]).shape == (3, 9, 3) and found.model[0].weight.shape == (8, 4)


@pytest.mark.parametrize(
    ("units", "share", "multiple", "wanted"),
    [
        (1536, 0.5, 8, 768),
        (100, 0.5, 8, 48),
        (100, 0.5, 1, 50),
        (24, 0.5, 8, 16),
        (15, 0.5, 8, 8),
        (16, 0.01, 8, 8),
        (3, 0.01, 1, 1),
        (12, 0.99, 1, 12),
    ],
)
def test_how_many_are_left(units, share, multiple, wanted):
    assert left(units, share, multiple=multiple) == wanted


def test_ranked_together_the_lowest_of_all_widths_go():
    scores = [torch.tensor([5.0, 1, 6, 2]), torch.tensor([7.0, 8, 9, 3])]
    together = kept_units(scores, 0.375, multiples=[1, 1], together=True)
    assert [one.tolist() for one in together] == [[0, 2], [0, 1, 2]]
    apart = kept_units(scores, 0.5, multiples=[1, 1], together=False)
    assert [one.tolist() for one in apart] == [[0, 2], [1, 2]]
