"""Weights held to their encodings while they learn."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from lilliput.learning.constraints.constrained import Constrained
from lilliput.model.encodings import (
    Codebook,
    Dense,
    Grid,
    Grouped,
    Inputs,
    LowRank,
    Masked,
    Outliers,
    decoded,
)

ROWS, COLUMNS = 12, 20


class Net(nn.Module):
    """A tied pair of linear layers, a convolution, and a weight stored (in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(COLUMNS, ROWS)
        self.tied = nn.Linear(COLUMNS, ROWS)
        self.tied.weight = self.first.weight
        self.turned = nn.Parameter(torch.randn(ROWS, 8) * 0.3)
        self.norm = nn.LayerNorm(8)

    def forward(self, values):
        hidden = self.first(values).relu() + self.tied(values).tanh()
        return self.norm(hidden @ self.turned)


def net():
    torch.manual_seed(0)
    return Net()


def grid(bits=4, shape=(ROWS, COLUMNS), transposed=False, **changes):
    made = torch.Generator().manual_seed(3)
    most = 2 ** (bits - 1) - 1
    rows, columns = (shape[1], shape[0]) if transposed else shape
    kind = torch.int8 if bits <= 8 else torch.int16
    codes = torch.randint(-most, most + 1, (rows, columns), generator=made).to(kind)
    steps = torch.rand(rows, generator=made) * 0.1 + 0.01
    return Grid(codes, steps, None, shape, transposed, **changes)


def factors():
    made = torch.Generator().manual_seed(4)
    return torch.randn(5, COLUMNS, generator=made) * 0.3, torch.randn(ROWS, 5, generator=made) * 0.3


def small_grid(weight):
    steps = weight.abs().amax(1) / 7
    return Grid((weight / steps[:, None]).round().to(torch.int8), steps, None, tuple(weight.shape))


def columns():
    return torch.rand(COLUMNS, generator=torch.Generator().manual_seed(5)) + 0.5


def outliers():
    return Outliers(torch.tensor([2, 7]), torch.randn(ROWS, 2))


def without(made, places):
    made.codes[:, places] = 0
    return made


GROUPED = {
    "codes": torch.randint(0, 8, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    ),
    "steps": torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(2)) * 0.1 + 0.01,
    "bits": 3,
    "group": 8,
    "shape": (ROWS, COLUMNS),
}
MASK = torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(6)) > 0.6
KINDS = {
    "dense": lambda: Dense(torch.randn(ROWS, COLUMNS)),
    "half": lambda: Dense(torch.randn(ROWS, COLUMNS).half().float()),
    "grid": grid,
    "grid of int16": lambda: grid(12),
    "grid with column steps": lambda: replace(grid(), column_steps=columns()),
    "grid with outliers": lambda: without(grid(outliers=outliers()), [2, 7]),
    "grid with inputs": lambda: grid(inputs=Inputs(0.02, 100)),
    "grouped": lambda: Grouped(zeros=None, column_steps=None, **GROUPED),
    "grouped with zeros": lambda: Grouped(
        zeros=torch.full((ROWS, 3), 3, dtype=torch.uint8), column_steps=columns(), **GROUPED
    ),
    "masked": lambda: Masked(torch.randn(ROWS, COLUMNS) * MASK, MASK),
    "codebook": lambda: Codebook(
        torch.randint(0, 5, (ROWS, COLUMNS)).to(torch.uint8),
        torch.tensor([-1.0, -0.2, 0.0, 0.3, 0.9]),
        torch.rand(ROWS) + 0.1,
        (ROWS, COLUMNS),
    ),
    "low rank": lambda: LowRank(tuple(Dense(f) for f in factors()), (ROWS, COLUMNS)),
    "low rank of grids": lambda: LowRank(
        tuple(small_grid(f) for f in factors()), (ROWS, COLUMNS)
    ),
}  # fmt: skip


def same(one, other):
    """Whether two encodings are equal, tensors to the bit."""
    assert type(one) is type(other)
    for name in vars(one):
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b) and a.dtype == b.dtype, name
        elif isinstance(a, tuple) and a and not isinstance(a[0], int):
            assert len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
        elif isinstance(a, Outliers):
            assert same(a, b)
        else:
            assert a == b, name
    return True


def stepped(model, steps=3, rate=0.02):
    """A few updates of what requires gradients."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=rate)
    for _ in range(steps):
        loss = (model(torch.randn(16, COLUMNS)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("learn", ["all", "scales"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_encoding_comes_back_as_it_went_in(kind, learn):
    model, before = net(), copy.deepcopy(net().state_dict())
    encoding = KINDS[kind]()
    held = Constrained(model, {"first.weight": encoding}, learn=learn)
    back = held.encodings()
    assert list(back) == ["first.weight"]
    assert same(back["first.weight"], encoding)
    assert torch.equal(back["first.weight"].decode(), encoding.decode())
    assert torch.equal(held.model.first.weight, encoding.decode())
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_computes_as_the_decoded_weights_do(kind):
    encodings = {"weight": KINDS[kind]()}
    layer, plain = nn.Linear(COLUMNS, ROWS), nn.Linear(COLUMNS, ROWS)
    plain.load_state_dict(layer.state_dict())
    held = Constrained(layer, encodings)
    values = torch.randn(4, COLUMNS)
    with torch.no_grad():
        plain.weight.copy_(decoded(encodings, plain)["weight"])
        seen = Inputs(0.02, 100).rounded(values) if kind == "grid with inputs" else values
        torch.testing.assert_close(held.model(values), plain(seen))


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_learn_and_stay_inside_their_encoding(kind):
    encoding = KINDS[kind]()
    held = Constrained(net(), {"first.weight": encoding})
    stepped(held.model)
    back = held.encodings()["first.weight"]
    assert not torch.equal(back.decode(), encoding.decode())
    torch.testing.assert_close(back.decode(), held.model.first.weight, rtol=0, atol=0)
    assert held.model.tied.weight is not None
    assert torch.equal(held.model.tied.weight, held.model.first.weight)
    if isinstance(encoding, Grid):
        assert back.codes.dtype == encoding.codes.dtype
        assert encoding.codes.min() <= back.codes.min() <= back.codes.max() <= encoding.codes.max()
        assert not torch.equal(back.codes, encoding.codes) and (back.row_steps > 0).all()
    if isinstance(encoding, Grouped):
        assert back.codes.max() < 2**encoding.bits and (back.steps > 0).all()
    if isinstance(encoding, Masked):
        assert torch.equal(back.mask, MASK) and bool((back.weight[~MASK] == 0).all())
    if isinstance(encoding, Codebook):
        assert torch.equal(back.row_steps, encoding.row_steps) and len(back.values) == 5
        assert bool((back.values.diff() > 0).all())
    if kind == "half":
        assert torch.equal(back.weight, back.weight.half().float())
    if isinstance(encoding, LowRank):
        assert torch.linalg.matrix_rank(back.decode()) <= 5


@pytest.mark.parametrize("kind", ["grid", "grouped", "codebook"])
def test_of_scales_alone_codes_stand_still(kind):
    encoding = KINDS[kind]()
    held = Constrained(net(), {"first.weight": encoding}, learn="scales")
    stepped(held.model)
    found = held.encodings()
    back = found["first.weight"]
    assert torch.equal(back.codes, encoding.codes)
    assert not torch.equal(back.decode(), encoding.decode())
    assert set(found) == {"first.weight", "first.bias", "tied.bias", "norm.weight", "norm.bias"}


@pytest.mark.parametrize("kind", ["grid", "grouped", "codebook"])
def test_what_is_zero_stays_zero_where_that_is_asked(kind):
    encoding = KINDS[kind]()
    gone = encoding.decode() == 0
    assert gone.any()
    held = Constrained(net(), {"first.weight": encoding}, sparse={"first.weight"})
    stepped(held.model, steps=6, rate=0.05)
    assert bool((held.encodings()["first.weight"].decode()[gone] == 0).all())


def test_a_weight_stored_in_out_keeps_its_layout():
    encoding = grid(shape=(ROWS, 8), transposed=True)
    held = Constrained(net(), {"turned": encoding})
    assert same(held.encodings()["turned"], encoding)
    stepped(held.model)
    back = held.encodings()["turned"]
    assert back.codes.shape == (8, ROWS) and torch.equal(back.decode(), held.model.turned)


def test_steps_of_inputs_learn_and_layers_that_read_the_same_share_them():
    inputs = Inputs(0.02, 100)
    model = nn.Sequential(nn.Linear(COLUMNS, ROWS), nn.ReLU(), nn.Linear(ROWS, ROWS))
    encodings = {
        "0.weight": grid(inputs=inputs, results=inputs),
        "2.weight": grid(shape=(ROWS, ROWS), inputs=inputs),
    }
    held = Constrained(model, encodings)
    stepped(held.model)
    back = held.encodings()
    assert back["0.weight"].inputs.step not in (None, 0.02) and back["0.weight"].inputs.zero == 100
    assert back["0.weight"].inputs == back["2.weight"].inputs == back["0.weight"].results


def test_only_what_may_change_does():
    held = Constrained(net(), {"first.weight": grid()}, only={"norm.bias"})
    stepped(held.model)
    assert set(held.encodings()) == {"norm.bias"}
