"""Channels split, joined, shuffled, gated and moved into space."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.convolutional import conv
from zoo.parts import Net, Pool, noise


class ShuffledGroups(nn.Module):
    """ShuffleNet: grouped products with channels shuffled between them by a view."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.one = conv(3, 16), conv(16, 16, 1, groups=4)
        self.depth, self.two = conv(16, 16, groups=16), nn.Conv2d(16, 16, 1, groups=4)
        self.head = Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        inner = self.one(x)
        batch, channels, height, width = inner.shape
        inner = inner.view(batch, 4, channels // 4, height, width).transpose(1, 2)
        inner = inner.reshape(batch, channels, height, width)
        return self.head(x + self.two(self.depth(inner)))


class ShuffledHalves(nn.Module):
    """ShuffleNet 2: half of the channels passes by, then both halves are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = conv(3, 16)
        self.body = nn.Sequential(conv(8, 8, 1), conv(8, 8, groups=8), conv(8, 8, 1))
        self.again, self.head = conv(16, 12, 1), Pool(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, self.body(right)], 1)
        batch, channels, height, width = x.shape
        x = x.reshape(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return self.head(self.again(x.view(batch, channels, height, width)))


def native_shuffle() -> nn.Module:
    body = [conv(3, 12, 1), conv(12, 12, 1, groups=3), nn.ChannelShuffle(3)]
    return nn.Sequential(*body, conv(12, 12, groups=3), Pool(12))


def super_resolution() -> nn.Module:
    body = [nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 16, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*body, nn.PixelShuffle(2), nn.Conv2d(4, 1, 3, padding=1))


def pixels_to_channels() -> nn.Module:
    return nn.Sequential(conv(3, 4, 1), nn.PixelUnshuffle(2), conv(16, 8, 1), Pool(8))


class ShuffledByHand(nn.Module):
    """Pixel shuffle written with view and permute, sizes in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.out = conv(3, 16), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, _, height, width = x.shape
        x = x.view(batch, 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return self.out(x.reshape(batch, 4, height * 2, width * 2))


class Dense(nn.Module):
    """DenseNet: every layer reads all before it; a transition halves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        sizes = (8, 12, 16)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in sizes)
        self.layers = nn.ModuleList(nn.Conv2d(size, 4, 3, padding=1) for size in sizes)
        self.last, self.transition, self.head = nn.BatchNorm2d(20), nn.Conv2d(20, 10, 1), Pool(10)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=True):
            seen.append(layer(F.relu(norm(torch.cat(seen, 1)))))
        return self.head(F.avg_pool2d(self.transition(self.last(torch.cat(seen, 1))), 2))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.one, self.three = conv(8, 4, 1), nn.Sequential(conv(8, 6, 1), conv(6, 8))
        self.five = nn.Sequential(conv(8, 4, 1), conv(4, 4, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(8, 4, 1))
        self.head = Pool(20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(
            torch.cat([part(x) for part in (self.one, self.three, self.five, self.pool)], 1)
        )


class Fire(nn.Module):
    """SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.one, self.three = conv(3, 4, 1), conv(4, 8, 1), conv(4, 8)
        self.out = nn.Conv2d(16, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return self.out(torch.cat([self.one(x), self.three(x)], 1)).mean((2, 3))


class SlicedAndJoined(nn.Module):
    """Stretches of channels go separate ways and come back in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.left, self.right = conv(3, 12), conv(4, 4), conv(8, 6)
        self.out, self.head = conv(14, 8), Pool(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        left, right = x[:, :4], x[:, 4:]
        return self.head(self.out(torch.cat([self.right(right), x[:, -4:], self.left(left)], 1)))


class CrossStage(nn.Module):
    """CSPNet: a part goes through blocks, the rest is joined afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.block, self.out = conv(3, 16), conv(8, 8), conv(24, 8, 1)
        self.head = Pool(8)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(torch.split(self.enter(x), [8, 8], dim=1))
        parts.append(parts[-1] + self.block(parts[-1]))
        return self.head(self.out(torch.cat(parts, 1)))


class Ghost(nn.Module):
    """Half of the channels are cheap copies; some are thrown away again."""

    def __init__(self) -> None:
        super().__init__()
        self.primary, self.cheap = conv(3, 8), conv(8, 8, groups=8)
        self.out, self.head = conv(12, 8, 1), Pool(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return self.head(self.out(torch.cat([x, self.cheap(x)], 1)[:, :12]))


class Hierarchical(nn.Module):
    """Res2Net: parts of the channels add up one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.out = conv(3, 16, 1), nn.Conv2d(16, 16, 1)
        self.layers = nn.ModuleList(conv(4, 4) for _ in range(3))
        self.head = Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        first, *rest = torch.split(x, 4, 1)
        done, last = [first], first
        for layer, part in zip(self.layers, rest, strict=True):
            last = layer(part + last)
            done.append(last)
        return self.head(F.relu(x + self.out(torch.cat(done, 1))))


class Gated(nn.Module):
    """WaveNet: dilated convolutions with tanh and sigmoid gates, skips and residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, 8, 1)
        self.gates = nn.ModuleList(nn.Conv1d(8, 24, 2, dilation=2**n) for n in range(3))
        self.residuals = nn.ModuleList(nn.Conv1d(12, 8, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(12, 10, 1) for _ in range(3))
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(10, 8, 1), nn.ReLU(), nn.Conv1d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.enter(x), 0.0
        for number, layers in enumerate(zip(self.gates, self.residuals, self.skips, strict=True)):
            gate, residual, skip = layers
            filtered, opened = gate(F.pad(x, (2**number, 0))).chunk(2, 1)
            inner = torch.tanh(filtered) * torch.sigmoid(opened)
            x, total = x + residual(inner), total + skip(inner)
        return self.out(total)


class Causal(nn.Module):
    """Temporal convolutions that pad on both sides and drop the future."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (
            nn.Conv1d(2, 8, 3, padding=4, dilation=2),
            nn.Conv1d(8, 8, 3, padding=2),
        )
        self.match, self.out = nn.Conv1d(2, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.one(x)[:, :, :-4].contiguous())
        inner = F.relu(self.two(inner)[:, :, :-2])
        return self.out(F.relu(inner + self.match(x))[:, :, -1])


def gated_units() -> nn.Module:
    body = [nn.Conv1d(2, 16, 3, padding=1), nn.GLU(dim=1), nn.Conv1d(8, 12, 3), nn.GLU(1)]
    return nn.Sequential(*body, Pool(6))


class Film(nn.Module):
    """Features scaled and moved by what another input says."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.film = conv(3, 8), nn.Linear(4, 16)
        self.body, self.head = conv(8, 8), Pool(8)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
        x = F.relu(self.enter(x) * (1 + scale) + shift)
        return self.head(self.body(x))


class Highway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.change, self.gate = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        gate = torch.sigmoid(self.gate(x))
        return self.out(gate * F.relu(self.change(x)) + (1 - gate) * x)


class Mixture(nn.Module):
    """Experts weighed by a softmax gate."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.gate = nn.Linear(6, 12), nn.Linear(12, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8)) for _ in range(3)
        )
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.enter(x))
        weights = self.gate(x).softmax(-1)
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return self.out((weights[..., None] * answers).sum(1))


class Windowed(nn.Module):
    """Space folded into channels by views (focus layer), then a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.body, self.head = conv(12, 8), conv(8, 8), Pool(8)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        x = self.enter(torch.cat(parts, 1))
        return self.head(x + self.body(x))


class Maxout(nn.Module):
    """Of every pair of neurons the larger one."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(6, 16), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.out(x.view(x.shape[0], 8, 2).amax(-1))


class Stacked(nn.Module):
    """A new axis by stack and unsqueeze, merged again by flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([self.one(x).relu(), self.two(x).tanh()], dim=1)
        return self.out(
            both.flatten(1) + both.unsqueeze(0).squeeze(0).reshape(x.shape[0], -1).sin()
        )


IMAGE = noise(2, 3, 8, 8)
NETS = (
    Net("shuffled groups", ShuffledGroups, IMAGE),
    Net("shuffled halves", ShuffledHalves, IMAGE),
    Net("native shuffle", native_shuffle, IMAGE),
    Net("super-resolution", super_resolution, noise(2, 1, 6, 6), [(2, 3)], {"0": 8, "2": 4}),
    Net("pixels to channels", pixels_to_channels, IMAGE),
    Net("shuffled by hand", ShuffledByHand, IMAGE, None, {"enter.0": 4}),
    Net("dense", Dense, IMAGE, None, {"stem": 8, "layers.0": 4, "transition": 10}),
    Net("inception", Inception, IMAGE),
    Net("fire", Fire, IMAGE),
    Net("sliced and joined", SlicedAndJoined, IMAGE),
    Net("cross stage", CrossStage, IMAGE),
    Net("ghost", Ghost, IMAGE),
    Net("hierarchical", Hierarchical, IMAGE),
    Net("gated", Gated, noise(2, 1, 12), [(2,)], {"enter": 8, "gates.0": 12, "skips.0": 10}),
    Net("causal", Causal, noise(2, 2, 10)),
    Net("gated units", gated_units, noise(2, 2, 10)),
    Net("film", Film, lambda: (torch.randn(2, 3, 8, 8), torch.randn(2, 4))),
    Net("highway", Highway, noise(2, 6)),
    Net("mixture", Mixture, noise(2, 6)),
    Net("windowed", Windowed, IMAGE),
    Net("maxout", Maxout, noise(2, 6), None, {"enter": 8}),
    Net("stacked", Stacked, noise(2, 6)),
)
