"""Optimizers cut along with their model: the weights that stay take the same next steps."""

import pytest
import torch
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.cutting import cut
from lilliput.shapes.optimizers import resized_optimizer
from lilliput.shapes.widths import shape_of

INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
DEAD = [1, 4, 5]
LEFT = [0, 2, 3, 6, 7]


@pytest.fixture
def net() -> nn.Module:
    """A network of which three hidden units are dead: they neither act nor learn."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        net[0].weight[DEAD] = 0
        net[0].bias[DEAD] = -1
    return net


def step(net, optimizer):
    optimizer.zero_grad()
    net(INPUTS).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.Adam(weights, lr=0.01, betas=(0.8, 0.99)),
        lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1, amsgrad=True),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True),
        lambda weights: torch.optim.RMSprop(weights, lr=0.01, momentum=0.5),
    ],
    ids=["adam", "adamw", "sgd", "rmsprop"],
)
def test_what_stays_takes_the_same_next_steps(net, make):
    optimizer = make(
        [{"params": [net[0].weight], "lr": 0.02}, {"params": [*net[0:3:2].parameters()][1:]}]
    )
    for _ in range(3):
        step(net, optimizer)
    found = cut(net, shape_of(net, INPUTS), units={"0": LEFT}, inputs=INPUTS)
    smaller = resized_optimizer(optimizer, found, original=net)
    assert type(smaller) is type(optimizer)
    assert [group["lr"] for group in smaller.param_groups] == [
        group["lr"] for group in optimizer.param_groups
    ]
    fresh = make(list(found.model.parameters()))
    assert not fresh.state
    for _ in range(3):
        step(net, optimizer)
        step(found.model, smaller)
    torch.testing.assert_close(found.model[0].weight, net[0].weight[LEFT])
    torch.testing.assert_close(found.model[0].bias, net[0].bias[LEFT])
    torch.testing.assert_close(found.model[2].weight, net[2].weight[:, LEFT])
    torch.testing.assert_close(found.model[2].bias, net[2].bias)


def test_without_the_old_state_the_steps_would_differ(net):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(3):
        step(net, optimizer)
    found = cut(net, shape_of(net, INPUTS), units={"0": LEFT}, inputs=INPUTS)
    step(net, optimizer)
    step(found.model, torch.optim.Adam(found.model.parameters(), lr=0.01))
    assert not torch.allclose(found.model[0].weight, net[0].weight[LEFT], atol=1e-4)


def test_a_foreign_weight_and_an_unknown_layout_are_refused(net):
    found = cut(net, shape_of(net, INPUTS), units={"0": LEFT}, inputs=INPUTS)
    foreign = torch.optim.SGD([nn.Parameter(torch.zeros(2, 2))], lr=0.1)
    with pytest.raises(ShapeError, match=r"shape \(2, 2\) that is not the model's"):
        resized_optimizer(foreign, found, original=net)
    flat = torch.optim.LBFGS(net.parameters(), max_iter=2)
    flat.step(lambda: _loss(net, flat))
    with pytest.raises(ShapeError, match=r"of 0\.weight"):
        resized_optimizer(flat, found, original=net)


def _loss(net, optimizer):
    optimizer.zero_grad()
    loss = net(INPUTS).square().mean()
    loss.backward()
    return loss
