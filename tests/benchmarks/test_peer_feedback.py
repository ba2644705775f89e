import torch
from benchmarks.models import Subject, relative_error
from benchmarks.peers.feedback import (
    compensated_codebook,
    error_feedback,
    feed_back,
    second_moments,
    weighted_centres,
)
from benchmarks.peers.rounding import round_to_nearest
from torch import nn


def problem():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 128, generator=generator)
    inputs = torch.randn(2000, 16, generator=generator) @ torch.randn(16, 128, generator=generator)
    inputs += 0.3 * torch.randn(2000, 128, generator=generator)
    return weight, (inputs.t() @ inputs).double() / 2000


def loss(item, weight, moments):
    difference = (item.decode() - weight).double()
    return float(((difference @ moments) * difference).sum())


def test_feedback_loses_less_than_rounding_on_correlated_inputs():
    weight, moments = problem()
    plain = loss(round_to_nearest(weight, 3), weight, moments)
    assert loss(error_feedback(weight, moments, 3), weight, moments) < 0.4 * plain
    assert loss(compensated_codebook(weight, moments, 3), weight, moments) < 0.4 * plain


def test_without_correlation_feedback_is_plain_rounding():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    moments = torch.diag(torch.arange(1.0, 7.0)).double()
    codes = feed_back(weight, moments, lambda values, _: (values.round(), values.round()))
    assert torch.equal(codes, weight.round())


def test_feedback_moves_the_error_by_the_formula():
    moments = torch.tensor([[2.0, 1.0], [1.0, 1.5]]).double()
    weight = torch.tensor([[0.4, 0.9]])
    codes = feed_back(weight, moments, lambda values, _: (values.round(), values.round()))
    damped = moments + 0.01 * 1.75 * torch.eye(2)
    moved = 0.9 + 0.4 * float(damped[0, 1] / damped[1, 1])  # least squares given the first code
    assert codes.tolist() == [[0.0, float(round(moved))]]


def test_centres_find_the_clusters():
    values = torch.cat([torch.full((50,), -1.0), torch.full((30,), 0.5), torch.full((20,), 2.0)])
    centres = weighted_centres(values, torch.ones(100), 3)
    assert torch.allclose(centres, torch.tensor([-1.0, 0.5, 2.0]), atol=1e-5)


def test_moments_leave_out_masked_positions():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, x, attention_mask):
            return self.layer(x).sum(1)

    x = torch.tensor([[[1.0, 2.0], [9.0, 9.0]]])
    batch = {"x": x, "attention_mask": torch.tensor([[1, 0]])}
    subject = Subject("net", Net(), (batch,), (), relative_error, ("layer.weight",))
    assert second_moments(subject)["layer.weight"].tolist() == [[1.0, 2.0], [2.0, 4.0]]
