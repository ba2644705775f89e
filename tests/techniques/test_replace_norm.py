"""replace_norm: equal to the original, or refused with what stands in the way."""

import pytest
import torch
from tests.techniques.shaped import Vision, made
from torch import Tensor, nn

from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from lilliput.shapes.standins import ShiftedRMSNorm
from lilliput.techniques import ReplaceNorm


@pytest.fixture
def vision():
    model, inputs, batches = made(Vision)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.weight.data = 1 + torch.rand(32, generator=generator)
            module.bias.data = torch.randn(32, generator=generator)
    return model, inputs, batches


def test_means_fold_into_what_writes_the_stream(vision):
    model, inputs, batches = vision
    found = ReplaceNorm().change(model, inputs, batches=batches)
    norms = [m for m in found.model.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm)]
    assert len(norms) == 7 and all(type(norm) is ShiftedRMSNorm for norm in norms)
    assert torch.allclose(found.model(inputs), model(inputs), atol=1e-5)
    after = found.model.state_dict()
    for name in ("second", "blocks.0.out", "blocks.2.down"):
        assert float(after[f"{name}.weight"].mean(0).abs().max()) < 1e-6
        assert abs(float(after[f"{name}.bias"].mean())) < 1e-6
    assert torch.equal(after["blocks.0.up.weight"], model.state_dict()["blocks.0.up.weight"])


def test_a_norm_without_bias_becomes_torchs_own(vision):
    model, inputs, _ = vision
    model.norm.bias.data.zero_()
    found = ReplaceNorm().change(model, inputs, where=("norm",))
    assert type(found.model.norm) is nn.RMSNorm
    assert type(found.model.blocks[0].norm) is nn.LayerNorm
    assert torch.allclose(found.model(inputs), model(inputs), atol=1e-5)


class Tokens(nn.Module):
    """A table, which the answers may read too, positions as a parameter, and a norm."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.table, self.tied = nn.Embedding(9, 8), tied
        self.places = nn.Parameter(torch.randn(1, 5, 8))
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 9, bias=False)
        if tied:
            self.last.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.table(x) + self.places))


def test_tables_and_parameters_are_centred_unless_something_else_reads_them():
    torch.manual_seed(0)
    inputs = torch.randint(0, 9, (2, 5))
    model = Tokens(tied=False).eval()
    found = ReplaceNorm().change(model, inputs)
    assert torch.allclose(found.model(inputs), model(inputs), atol=1e-5)
    assert float(found.model.places.detach().mean(-1).abs().max()) < 1e-6
    with pytest.raises(ShapeError, match=r"table.weight is read by linear in last too|last.weight"):
        ReplaceNorm().change(Tokens(tied=True).eval(), inputs, where=("norm",))


def test_a_norm_behind_the_sum_has_to_stay():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    before = state_hash(model)
    with pytest.raises(ShapeError, match=r"layer_norm in layers\.0\.norm1 writes to what it norms"):
        ReplaceNorm().change(model, torch.randn(2, 5, 16), where=("layers.0.norm2",))
    assert state_hash(model) == before
