"""Random networks of the zoo's parts: whatever is cut answers as it should, or is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from lilliput.shapes.cutting import cut
from lilliput.shapes.widths import shape_of
from zoo.convolutional import SqueezeExcite, conv
from zoo.examined import distance, outputs
from zoo.parts import Pool, Residual, noise


class Joined(nn.Module):
    """The input beside what a body makes of it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class Halved(nn.Module):
    """One half through a body, the other gates it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.chunk(x, 2, dim=1)
        return self.body(left) * torch.sigmoid(right)


class Sliced(nn.Module):
    """Stretches in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, 2:], x[:, :4]], dim=1)


class LastNorm(nn.Module):
    """A norm over the channels, turned to the end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Grouped(nn.Module):
    """Channels seen as groups, each weighed by its mean."""

    def forward(self, x: Tensor) -> Tensor:
        parts = x.view(x.shape[0], 4, x.shape[1] // 4, *x.shape[2:])
        return (parts * parts.mean((2, 3, 4), keepdim=True).tanh()).flatten(1, 2)


class Attended(nn.Module):
    """Attention between pixels in four heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(channels, 48), nn.Linear(16, channels)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.enter(x.flatten(2).transpose(1, 2))
        parts = rows.view(x.shape[0], -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts.unbind(0)).transpose(1, 2).flatten(2)
        return x + self.out(mixed).transpose(1, 2).unflatten(2, x.shape[2:])


PARTS = {
    "conv": lambda size: (conv(size, 12), 12),
    "grouped": lambda size: (nn.Conv2d(size, 16, 1, groups=4), 16),
    "depthwise": lambda size: (conv(size, size, groups=size), size),
    "residual": lambda size: (Residual(conv(size, 8), nn.Conv2d(8, size, 1)), size),
    "joined": lambda size: (Joined(conv(size, 4)), size + 4),
    "halved": lambda size: (Halved(conv(size // 2, size // 2, 1)), size // 2),
    "sliced": lambda size: (Sliced(), size + 2),
    "gated": lambda size: (nn.Sequential(nn.Conv2d(size, 16, 1), nn.GLU(1)), 8),
    "group norm": lambda size: (nn.GroupNorm(4, size), size),
    "last norm": lambda size: (LastNorm(size), size),
    "squeezed": lambda size: (SqueezeExcite(size, 4), size),
    "slopes": lambda size: (nn.PReLU(size), size),
    "shuffled": lambda size: (nn.ChannelShuffle(2), size),
    "seen as groups": lambda size: (Grouped(), size),
    "attended": lambda size: (Attended(size), size),
}


def composed(names: list[str]) -> nn.Module:
    """A network of these parts, in this order; what a part needs of the size is made first."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [conv(3, 8)]
    size = 8
    for name in names:
        if size % 4:
            layers.append(nn.Conv2d(size, 8, 1))
            size = 8
        layer, size = PARTS[name](size)
        layers.append(layer)
    return nn.Sequential(*layers, Pool(size)).eval()


@settings(max_examples=15)
@given(
    names=st.lists(st.sampled_from(sorted(PARTS)), min_size=2, max_size=5),
    seed=st.integers(0, 2**16),
)
def test_a_random_cut_of_a_random_network_is_equal_or_refused(names, seed):
    model, inputs = composed(names), noise(2, 3, 4, 4)()
    before, original = state_hash(model), outputs(model, inputs)
    shape = shape_of(model, inputs)
    draw = np.random.default_rng(seed)
    units = {
        name: draw.permutation(width.units)[: draw.integers(1, width.units)].tolist()
        for name, width in shape.widths.items()
        if width.free and draw.random() < 0.7
    }
    try:
        found = cut(model, shape, units=units, inputs=inputs)
    except ShapeError as error:
        pytest.fail(f"{names} refused: {error}")
    assert all(check.equal for check in found.checks)
    assert len(found.checks) >= 2
    answers = outputs(found.model, inputs)
    assert distance(answers, original) > 1e-6 or not units
    assert sum(p.numel() for p in found.model.parameters()) <= sum(
        p.numel() for p in model.parameters()
    )
    assert state_hash(model) == before
