"""Output-side second moments against exact Jacobians and Fisher matrices."""

import pytest
import torch
from torch import nn

from lilliput.errors import TaskError
from lilliput.model import gradients
from lilliput.model.capture import capture
from lilliput.model.gradients import Probe, observe_gradients
from lilliput.model.hashes import state_hash


class Net(nn.Module):
    """Words, a hidden layer written in place, and scores from the mean over positions."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.hidden = nn.Linear(6, 7)
        self.head = nn.Linear(7, 4)

    def tail(self, hidden):
        return self.head(torch.tanh(hidden).mean(1))

    def forward(self, ids):
        hidden = self.hidden(self.words(ids).mul_(1.0))
        return self.tail(hidden.relu_())


def jacobian(net, ids, start):
    """(outputs, positions, width) derivative of the scores of one example."""
    hidden = net.hidden(net.words(ids)).detach()
    if start == "hidden":
        found = torch.autograd.functional.jacobian(
            lambda h: net.tail(h.relu()), hidden, create_graph=False
        )
    else:
        found = torch.autograd.functional.jacobian(
            lambda w: net.tail(net.hidden(w).relu()), net.words(ids).detach()
        )
    return found[0, :, 0]


@pytest.mark.parametrize("likelihood", ["gaussian", "softmax"])
def test_expected_products_are_jacobian_products(likelihood):
    torch.manual_seed(0)
    net = Net()
    ids = torch.randint(0, 20, (1, 5))
    captured = capture(net, ids, smallest=1)
    found = observe_gradients(
        captured, net, [ids.expand(500, -1)] * 4, probe=Probe(likelihood=likelihood, draws=3)
    )
    metric = torch.eye(4)
    if likelihood == "softmax":
        p = net(ids)[0].detach().softmax(-1)
        metric = torch.diag(p) - torch.outer(p, p)
    for name, start in (("words.weight", "words"), ("hidden.weight", "hidden")):
        j = jacobian(net, ids, start)  # (out, positions, width)
        exact = torch.einsum("otd,op,pte->de", j, metric, j) / 5
        assert found[name].shape == exact.shape
        assert (found[name] - exact).norm() / exact.norm() < 0.05
    assert torch.allclose(found["head.weight"], metric, rtol=0.05, atol=0.02)


def test_convolution_and_left_products_give_what_rows_are_worth():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, bias=False)
            self.left = nn.Parameter(torch.randn(5, 8))

        def forward(self, x):
            return self.left @ self.conv(x).flatten(2)

    net = Mixed()
    x = torch.randn(2, 3, 6, 6)
    found = observe_gradients(capture(net, x, smallest=1), net, [x] * 50, probe=Probe(draws=2))
    assert torch.allclose(found["left"], torch.eye(5), atol=0.05)
    exact = (net.left.detach().t() @ net.left.detach()).diagonal()
    assert (found["conv.weight"] - exact).norm() / exact.norm() < 0.05


def test_rows_of_convolutions_and_very_large_sites_have_a_diagonal(monkeypatch):
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(128, 6))
    x = torch.randn(2, 4, 6, 6)
    captured = capture(net, x, smallest=1)
    found = observe_gradients(captured, net, [x] * 20)
    assert found["0.weight"].shape == (8,) and found["2.weight"].shape == (6, 6)
    monkeypatch.setattr(gradients, "MOST_ENTRIES", 35)
    large = observe_gradients(captured, net, [x] * 20)
    assert torch.allclose(large["2.weight"], found["2.weight"].diagonal())


def test_uses_of_some_rows_are_blocks():
    """Query, key and value of one stacked weight are three products."""
    net = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8)
    captured = capture(net, (x, x, x), smallest=1)
    found = observe_gradients(captured, net, [(x, x, x)] * 20)["in_proj_weight"]
    assert found.shape == (24, 24) and torch.linalg.eigvalsh(found).min() > -1e-5
    assert float(found[:8, :8].abs().sum()) > 0


def test_masked_positions_are_left_out():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(20, 6)
            self.head = nn.Linear(6, 4)

        def forward(self, ids, mask):
            return self.head(self.words(ids))

    net = Tagger()
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    batch = {"ids": torch.randint(0, 20, (2, 3)), "mask": mask}
    captured = capture(net, batch, dynamic={"ids": [1], "mask": [1]}, smallest=1)
    found = observe_gradients(captured, net, [batch], mask="mask")
    assert torch.allclose(found["head.weight"].diagonal(), torch.ones(4))


def test_same_seed_same_result_and_nothing_is_left_behind():
    net = Net()
    ids = torch.randint(0, 20, (3, 5))
    before, captured = state_hash(net), capture(net, ids, smallest=1)
    one, two, other = (
        observe_gradients(captured, net, [ids], probe=Probe(seed=seed))["words.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert state_hash(net) == before
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not torch.is_inference_mode_enabled()


def test_bad_outputs_are_refused():
    net, ids = Net(), torch.randint(0, 20, (3, 5))
    captured = capture(net, ids, smallest=1)
    with pytest.raises(TaskError, match="no examples"):
        observe_gradients(captured, net, [])
    with pytest.raises(TaskError, match="does not depend on any weight"):
        observe_gradients(captured, net, [ids], pick=lambda raw: raw.detach())


def test_positions_without_a_slope_are_left_out():
    """The magnitude of a spectrum has none where the sound is silent."""
    net, ids = Net(), torch.randint(0, 20, (3, 5))
    captured = capture(net, ids, smallest=1)
    assert observe_gradients(captured, net, [ids], pick=lambda raw: raw * float("inf")) == {}
    roots = nn.Linear(4, 8, bias=False)
    inputs = torch.cat([torch.zeros(1, 4), torch.ones(1, 4)])

    class Magnitude(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = roots

        def forward(self, x):
            return self.linear(x).square().sum(1, keepdim=True).sqrt()

    model = Magnitude()
    found = observe_gradients(capture(model, inputs, smallest=1), model, [inputs])
    assert torch.isfinite(found["linear.weight"]).all()
    assert found["linear.weight"].sum() > 0


def test_no_sites_no_gradients():
    net = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
    x = torch.randn(2, 16)
    captured = capture(net, x)
    assert "_weight_norm" in captured.frozen["parametrizations.weight.original1"]
    assert observe_gradients(captured, net, [x]) == {}
