"""Arithmetic of moments and of replacing weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lilliput.model.calls import run_with
from lilliput.model.hashes import state_hash
from lilliput.model.moments import Moments, small_sample


@settings(deadline=None, max_examples=30)
@given(columns=st.integers(1, 12), rows=st.integers(1, 40), groups=st.integers(1, 3))
def test_shrinking_keeps_the_diagonal_and_scales_the_rest(columns, rows, groups):
    x = torch.randn(groups, rows, columns, generator=torch.Generator().manual_seed(rows))
    plain = x.transpose(1, 2) @ x
    found = Moments(plain.clone(), rows).shrunk()
    factor = (1 - columns / (columns + rows)) * (1 - torch.eye(columns)) + torch.eye(columns)
    assert torch.allclose(found, plain / rows * factor, atol=1e-5)
    assert torch.linalg.eigvalsh(found).min() > -1e-5


def test_shrinking_helps_on_fresh_rows():
    """With N = d the shrunk matrix is nearer to the truth than the plain one."""
    torch.manual_seed(0)
    root = torch.randn(32, 32) / 6 + torch.eye(32)
    x = torch.randn(32, 32) @ root
    moments, truth = Moments((x.t() @ x)[None], 32), root.t() @ root
    plain = moments.second[0] / 32
    assert (moments.shrunk()[0] - truth).norm() < 0.8 * (plain - truth).norm()


def test_dead_and_constant_inputs():
    x = torch.randn(50, 4)
    x[:, 1], x[:, 2] = 0.0, 3.0
    moments = Moments((x.t() @ x)[None], 50, mean=x.mean(0)[None])
    assert moments.dead.tolist() == [[False, True, False, False]]
    assert moments.constant.tolist() == [[False, True, True, False]]


def test_nothing_to_shrink():
    with pytest.raises(ValueError, match="no second moment"):
        Moments(None, 0).shrunk()


def test_few_rows_are_said():
    second = torch.eye(8)[None]
    assert small_sample("w", Moments(second, 32)) is None
    assert "w: 31 calibration rows for 8 inputs; at least 32" in small_sample(
        "w", Moments(second, 31)
    )
    assert small_sample("w", Moments(None, 0)) is None


def test_replaced_weights_reach_ties_and_leave_the_model_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.words.weight
            self.register_buffer("seen", torch.zeros(1))
            self.drop = nn.Dropout(0.9)

        def forward(self, ids):
            self.seen.add_(1)
            return self.drop(self.head(self.words(ids)))

    net, ids = Tied(), torch.tensor([[1, 2]])
    before, new = state_hash(net), torch.randn(10, 4)
    found = run_with(net, {"words.weight": new}, ids)
    assert torch.allclose(found, new[ids] @ new.t(), atol=1e-6)
    assert torch.equal(run_with(net, {"words.weight": new}, {"ids": ids}), found)
    doubled = run_with(net, {}, ids, run=lambda model, inputs: 2 * model(inputs))
    assert torch.allclose(doubled, 2 * net.words.weight[ids] @ net.words.weight.t(), atol=1e-6)
    assert state_hash(net) == before
    assert not found.requires_grad
