"""The refit of what reads a cut width: exact where what went can be told from what stays."""

import pytest
import torch
from torch import Tensor, nn

from lilliput.model.hashes import state_hash
from lilliput.shapes.cutting import cut
from lilliput.shapes.refitting import refit, write
from lilliput.shapes.widths import shape_of


class Repeated(nn.Module):
    """Eight neurons of which the second four are twice the first four, and one that is constant."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 9), nn.Linear(9, 5)
        with torch.no_grad():
            self.enter.weight[4:8] = 2 * self.enter.weight[:4]
            self.enter.bias[4:8] = 2 * self.enter.bias[:4]
            self.enter.weight[8] = 0
            self.enter.bias[8] = 3.0

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu())


class Images(nn.Module):
    """The same for channels before a convolution without a bias and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 9, 3)
        self.leave, self.norm = nn.Conv2d(9, 6, 3, bias=False), nn.BatchNorm2d(6)
        with torch.no_grad():
            self.enter.weight[4:8] = 2 * self.enter.weight[:4]
            self.enter.bias[4:8] = 2 * self.enter.bias[:4]
            self.enter.weight[8] = 0
            self.enter.bias[8] = 3.0

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.leave(self.enter(x).relu())).mean((2, 3))


class Speech(nn.Module):
    """The same for what an LSTM reads."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.lstm = nn.Linear(6, 9), nn.LSTM(9, 7, batch_first=True)
        self.leave = nn.Linear(7, 2)
        with torch.no_grad():
            self.enter.weight[4:8] = 2 * self.enter.weight[:4]
            self.enter.bias[4:8] = 2 * self.enter.bias[:4]
            self.enter.weight[8] = 0
            self.enter.bias[8] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.lstm(self.enter(x).relu())[0])


class Product(nn.Module):
    """The same before a product with a parameter, in two groups of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 9), nn.Parameter(torch.randn(9, 5))
        with torch.no_grad():
            self.enter.weight[4:8] = 2 * self.enter.weight[:4]
            self.enter.bias[4:8] = 2 * self.enter.bias[:4]
            self.enter.weight[8] = 0
            self.enter.bias[8] = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.enter(x).relu() @ self.leave


SIZES = {Repeated: (6,), Images: (3, 8, 8), Speech: (7, 6), Product: (4, 6)}


def narrow(model, inputs, batches, *, fit):
    shape = shape_of(model, inputs)
    found = cut(model, shape, units={"enter": [0, 1, 2, 3]}, inputs=inputs)
    if fit:
        fitted = refit(model, found.kept, batches=batches)
        write(fitted, found.model, kept=found.kept)
        assert fitted.notes == []
    return found.model


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
def test_what_can_be_told_from_what_stays_is_made_up_for(kind):
    torch.manual_seed(0)
    model = kind().eval()
    batches = [torch.randn(64, *SIZES[kind]) for _ in range(8)]
    new = torch.randn(32, *SIZES[kind])
    before, wanted = state_hash(model), model(new).detach()
    errors = {}
    for fit in (False, True):
        found = narrow(model, batches[0][:2], batches, fit=fit)
        errors[fit] = float(
            (found(new).detach() - wanted).norm() / (wanted - wanted.mean(0)).norm()
        )
    assert errors[True] < 0.1 and 5 * errors[True] < errors[False], errors
    assert state_hash(model) == before


class Deep(nn.Module):
    """Residual feed-forward parts."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(16, 48) for _ in range(4))
        self.down = nn.ModuleList(nn.Linear(48, 16) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(up(x).relu())
        return x


def test_later_layers_make_up_for_what_earlier_ones_miss():
    """The last layer alone, refitted on the cut model, answers better than when it is left."""
    torch.manual_seed(0)
    model, batches = Deep().eval(), [torch.randn(256, 16) for _ in range(4)]
    shape, new = shape_of(model, batches[0]), torch.randn(256, 16)
    found = cut(model, shape, units={f"up.{n}": range(20) for n in range(4)}, inputs=batches[0])
    fitted = refit(model, found.kept, batches=batches)
    assert fitted.fitted == [f"down.{n}.weight" for n in range(4)]
    write(fitted, found.model, kept=found.kept)
    with torch.no_grad():
        whole = float((found.model(new) - model(new)).norm())
    alone = cut(model, shape, units={f"up.{n}": range(20) for n in range(4)}, inputs=batches[0])
    for n in range(4):
        one = cut(model, shape, units={f"up.{n}": range(20)}, inputs=batches[0])
        apart = refit(model, one.kept, batches=batches)
        alone.model.down[n].weight.data.copy_(apart.weights[f"down.{n}.weight"][:, :20])
        alone.model.down[n].bias.data.copy_(apart.weights[f"down.{n}.bias"])
    with torch.no_grad():
        assert whole < 0.98 * float((alone.model(new) - model(new)).norm())


class Tied(nn.Module):
    """A table that is read as the last layer, too, and a part that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.twice = nn.Embedding(20, 8), nn.Linear(8, 8)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        x = x + self.twice(self.twice(x).relu())
        return x @ self.table.weight.T


def test_what_cannot_be_fitted_is_cut_and_noted():
    torch.manual_seed(0)
    model, ids = Tied().eval(), torch.arange(12).reshape(2, 6)
    shape = shape_of(model, ids)
    (name,) = [width.name for width in shape.widths.values() if width.free]
    found = cut(model, shape, units={name: range(4)}, inputs=ids)
    notes = refit(model, found.kept, batches=[ids]).notes
    assert [note.partition(" was not fitted anew: ")[2] for note in notes] == [
        "it is a table too",
        "it is read in several places",
    ]
