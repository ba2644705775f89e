"""What cannot be cut says why: unknown operators, sizes that depend on values, outputs, changes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lilliput.errors import CaptureError, ShapeError
from lilliput.model.hashes import state_hash
from lilliput.shapes.cutting import cut
from lilliput.shapes.widths import shape_of

INPUTS = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """Two products with anything between them."""

    def __init__(self, inner, width: int = 8, leaving: int = 8) -> None:
        super().__init__()
        self.inner, self.enter, self.out = inner, nn.Linear(6, width), nn.Linear(leaving, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.enter(x)))


def only_width(model):
    shape = shape_of(model, INPUTS)
    return shape, shape.widths["enter"]


@pytest.mark.parametrize(
    ("inner", "leaving", "operator"),
    [
        (lambda x: torch.fft.rfft(x).abs(), 5, "fft_rfft"),
        (lambda x: torch.cdist(x, x[:1] * 2), 1, "cdist"),
        (lambda x: x.unfold(1, 4, 4).sum(1), 4, "unfold"),
        (lambda x: torch.gather(x, 1, torch.zeros_like(x, dtype=torch.long)), 8, "gather"),
    ],
    ids=["spectrum", "distances", "windows", "gathered"],
)
def test_an_operator_without_a_rule_is_named_and_freezes_what_it_touches(inner, leaving, operator):
    model = Between(inner, leaving=leaving)
    shape, width = only_width(model)
    assert operator in shape.unknown
    assert f"no rule for an operator at {operator} in the model" in width.frozen
    with pytest.raises(ShapeError, match=f"enter cannot be cut: no rule .* at {operator}"):
        cut(model, shape, units={"enter": [0, 1]}, inputs=INPUTS)


@pytest.mark.parametrize(
    ("inner", "leaving", "reason"),
    [
        (lambda x: x.flip(1), 8, "the order of positions counts at flip"),
        (lambda x: x.cumsum(1), 8, "the order of positions counts at cumsum"),
        (lambda x: x.topk(4, 1).values, 4, "the order of positions counts at topk"),
        (lambda x: F.one_hot(x.argmax(1), 8).float(), 8, "the order of positions counts at argmax"),
        (lambda x: x[:, 2:3].expand(-1, 8) * x[:, 3:4], 8, ""),
        (lambda x: x[:, ::2], 4, "a stretch whose bounds are not known"),
        (lambda x: x[:, torch.tensor([0, 3])], 2, "rows are looked up by number at index"),
        (lambda x: x + torch.arange(8), 8, "meets a fixed size at add"),
        (
            lambda x: x.view(-1, 4, 2)[:, 0].repeat(1, 4) + x.view(-1, 4, 2)[:, :, 0].sum(),
            8,
            "picked by its number",
        ),
        (lambda x: F.avg_pool1d(x[:, None], 2)[:, 0], 4, "a window moves over it at avg_pool1d"),
    ],
    ids=[
        *("flipped", "cumulated", "ranked", "largest", "picked", "paced", "indexed", "numbered"),
        *("both factors", "pooled"),
    ],
)
def test_what_has_to_stay_says_why(inner, leaving, reason):
    _, width = only_width(Between(inner, leaving=leaving))
    assert reason in width.frozen
    assert bool(width.frozen) == bool(reason) or width.units == 1


def test_a_stretch_that_depends_on_the_inputs_size_is_not_cut():
    class Shaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.out = nn.Linear(6, 8), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.enter(x)  # (batch, time, 8)
            return self.out(x) + hidden[:, :, : x.shape[1]].sum(-1, keepdim=True)

    inputs = torch.randn(2, 5, 6)
    shape = shape_of(Shaped(), inputs, dynamic=[(1,)])
    assert "bounds are not known" in shape.widths["enter"].frozen


@pytest.mark.parametrize(
    "inner",
    [
        lambda x: x[x.sum(1) > 0].sum(0, keepdim=True),
        lambda x: x[torch.nonzero(x[:, 0] > 0)[:, 0]].sum(0, keepdim=True),
        lambda x: torch.masked_select(x, x > 0).sum() + x,
    ],
    ids=["mask", "nonzero", "selected"],
)
def test_sizes_that_depend_on_values_are_refused_or_frozen(inner):
    model = Between(inner).eval()
    before = state_hash(model)
    try:
        shape, width = only_width(model)
    except CaptureError as error:
        assert "the graph cannot be captured" in error.message
        return
    assert width.frozen
    with pytest.raises(ShapeError, match="enter cannot be cut"):
        cut(model, shape, units={"enter": [0, 1]}, inputs=INPUTS)
    assert state_hash(model) == before


def test_a_residual_ties_a_width_to_the_output():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.body = nn.Linear(6, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x)
            return x + self.body(x).relu()

    model = Tied()
    with pytest.raises(ShapeError, match="enter cannot be cut: it is the model's output"):
        cut(model, shape_of(model, INPUTS), units={"enter": [0]}, inputs=INPUTS)


def test_positions_that_only_go_together_are_one_unit():
    model = Between(lambda x: x @ x.transpose(0, 1) @ x, 8)
    free = shape_of(model, INPUTS).widths["enter"]
    assert free.free and free.units == 8

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.out = nn.Conv1d(4, 4, 1, groups=2), nn.Conv1d(4, 4, 1, groups=2)
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.enter(x[:, :4, None])
            return self.last(self.out(F.channel_shuffle(x, 2))[:, :, 0])

    model = Shuffled()
    shape = shape_of(model, INPUTS)
    with pytest.raises(ShapeError, match="enter cannot be cut: its positions can only go all"):
        cut(model, shape, units={"enter": [0]}, inputs=INPUTS)


def test_heads_in_the_code_are_cut_on_the_graph():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(6, 48), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            parts = self.qkv(x).view(-1, 5, 3, 4, 4).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2])
            return self.out(mixed.transpose(1, 2).reshape(-1, 5, 16))

    model, inputs = Heads(), torch.randn(2, 5, 6)
    found = cut(model, shape_of(model, inputs), units={"qkv": [1, 3]}, inputs=inputs)
    assert found.how == "graph"
    assert found.model.state_dict()["qkv.weight"].shape == (24, 6)
    assert all(check.equal for check in found.checks)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda net: setattr(net, "enter", nn.Linear(6, 8, bias=False)), "names and shapes"),
        (lambda net: net.enter.weight.data.mul_(2), "values"),
        (lambda net: setattr(net.out, "bias", nn.Parameter(torch.ones(3))), "values"),
    ],
    ids=["another layer", "trained", "replaced"],
)
def test_a_model_changed_since_then_is_refused(change, what):
    model = Between(torch.relu)
    shape = shape_of(model, INPUTS)
    change(model)
    before = state_hash(model)
    with pytest.raises(ShapeError, match=f"has changed since its widths were found.*other {what}"):
        cut(model, shape, units={"enter": [0, 1]}, inputs=INPUTS)
    assert state_hash(model) == before


def test_a_model_in_training_mode_may_be_cut_and_stays_in_it():
    model = Between(torch.relu)
    shape = shape_of(model.eval(), INPUTS)
    found = cut(model.train(), shape, units={"enter": [0, 1]}, inputs=INPUTS)
    assert found.model.training and model.training
