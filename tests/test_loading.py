"""A shape that the user's class cannot take is loaded as its graph."""

import pytest
import torch
from torch import Tensor, nn

import lilliput
from lilliput.errors import CheckpointError
from lilliput.folders import GRAPH
from lilliput.reshaping import save_reshaped
from lilliput.shapes.cutting import cut
from lilliput.shapes.widths import shape_of


class Encoder(nn.Module):
    """Its attention spells out how wide it is, so that no instance can have fewer heads."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.5, batch_first=True)
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.enter(x))).mean(1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two of four heads: the cut model, inputs, the folder."""
    torch.manual_seed(0)
    model, inputs = Encoder().eval(), torch.randn(2, 6, 8)
    found = cut(model, shape_of(model, inputs), units={"layer.self_attn": [0, 2]}, inputs=inputs)
    assert found.how == "graph"
    folder = tmp_path_factory.mktemp("graph")
    save_reshaped(found, model, inputs=inputs, steps=(), folder=folder)
    return found.model, inputs, folder


def test_the_graph_answers_as_the_cut_model_and_keeps_the_names(saved):
    model, inputs, folder = saved
    graph = lilliput.load(folder, model=Encoder())
    with torch.no_grad():
        torch.testing.assert_close(graph(inputs), model(inputs), rtol=0, atol=1e-6)
        assert graph(torch.cat([inputs, inputs])).shape == (4, 5)
    assert set(graph.state_dict()) == set(Encoder().state_dict())


def test_the_graph_trains_with_its_dropout(saved):
    _, inputs, folder = saved
    graph = lilliput.load(folder, model=Encoder()).train()
    assert not torch.equal(graph(inputs), graph(inputs))
    before = graph.get_parameter("layer.self_attn.in_proj_weight").detach().clone()
    graph(inputs).square().sum().backward()
    torch.optim.SGD(graph.parameters(), 0.1).step()
    assert not torch.equal(before, graph.get_parameter("layer.self_attn.in_proj_weight"))


def test_a_changed_graph_is_refused(saved, tmp_path):
    *_, folder = saved
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / GRAPH).write_bytes((folder / GRAPH).read_bytes() + b"0")
    with pytest.raises(CheckpointError, match="not the file the manifest describes"):
        lilliput.load(tmp_path, model=Encoder())
