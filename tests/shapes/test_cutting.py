"""Cuts as transactions: proved against the deaf original, or refused with the model untouched."""

import pytest
import torch
from torch import Tensor, nn

from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from lilliput.shapes.cutting import cut
from lilliput.shapes.proof import Reference
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import shape_of


class Attention(nn.Module):
    """Heads behind one product for query, key and value, in a residual stream with a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.enter, self.qkv = nn.Linear(8, 32), nn.Linear(32, 96)
        self.out, self.norm, self.last = nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, length, _ = x.shape
        parts = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, 8).unbind(2)
        query, key, value = (part.transpose(1, 2) for part in parts)
        mixed = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return self.last(x).mean(1)


@pytest.fixture
def attention() -> nn.Module:
    torch.manual_seed(0)
    return Attention().eval()


INPUTS = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(1))


def test_heads_are_one_width_of_query_key_value_and_output(attention):
    width = shape_of(attention, INPUTS).widths["qkv"]
    assert (width.kind, width.units) == ("heads", 4)
    assert {(tie.weight, tie.axis) for tie in width.ties} == {
        ("qkv.weight", 0),
        ("qkv.bias", 0),
        ("out.weight", 1),
    }
    assert width.parameters == 3 * 8 * 33 + 8 * 32


def test_a_cut_of_heads_changes_the_users_own_class_and_its_number_of_heads(attention):
    shape = shape_of(attention, INPUTS)
    found = cut(attention, shape, units={"qkv": [0, 3]}, inputs=INPUTS)
    assert found.how == "class" and type(found.model) is Attention
    assert found.model.heads == 2
    assert found.model.qkv.weight.shape == (48, 32)
    assert {check.shapes for check in found.checks} == {((2, 6, 8),), ((3, 6, 8),)}


def test_the_deaf_original_really_answers_otherwise(attention):
    shape = shape_of(attention, INPUTS)
    reference = Reference(attention, Kept(shape, {"qkv": shape.units["qkv"][:1] * 0}), INPUTS)
    assert all(check.difference > 1e-3 for check in reference.compare(attention))


def test_a_norm_over_what_was_cut_is_named_and_taken_over_what_stays(attention):
    shape = shape_of(attention, INPUTS)
    found = cut(attention, shape, units={"enter": range(0, 32, 2)}, inputs=INPUTS)
    assert found.notes == ("layer_norm in norm mixes what was cut with what stays",)
    assert all(check.equal for check in found.checks)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"qkw": [0]}, "did you mean qkv"),
        ({"qkv": []}, "nothing would be left of qkv"),
        ({"qkv": [4]}, "units 0 to 3"),
        ({"last": [0]}, "it is the model's output"),
    ],
)
def test_a_wrong_cut_is_refused_and_nothing_changes(attention, units, message):
    before = state_hash(attention)
    shape = shape_of(attention, INPUTS)
    with pytest.raises(ShapeError, match=message):
        cut(attention, shape, units=units, inputs=INPUTS)
    assert state_hash(attention) == before
