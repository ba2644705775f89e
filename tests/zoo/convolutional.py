"""Convolutions: plain, grouped, depthwise, transposed, in one to three dimensions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.parts import Net, Pool, Residual, noise


def conv(inputs: int, outputs: int, kernel: int = 3, **options: object) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    padding = kernel // 2
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def plain() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.MaxPool2d(2), conv(8, 12), Pool(12))


def flattened() -> nn.Module:
    head = [nn.Flatten(), nn.Linear(8 * 4 * 4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 5)]
    return nn.Sequential(conv(3, 8), nn.AvgPool2d(2), *head)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.same = Residual(conv(8, 8), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.down = nn.Sequential(conv(8, 16, stride=2), nn.Conv2d(16, 16, 3, padding=1))
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)
        self.head = Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.same(self.stem(x)))
        return self.head(F.relu(self.down(x) + self.shortcut(x)))


def bottleneck() -> nn.Module:
    block = Residual(conv(16, 4, 1), conv(4, 4), nn.Conv2d(4, 16, 1), nn.BatchNorm2d(16))
    return nn.Sequential(conv(3, 16), block, nn.ReLU(inplace=True), Pool(16))


class PaddedShortcut(nn.Module):
    """The shortcut of small ResNets: every other pixel, zeros for the new channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.body = nn.Sequential(conv(8, 16, stride=2), nn.Conv2d(16, 16, 3, padding=1))
        self.head = Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return self.head(F.relu(self.body(x) + shortcut))


def preactivated() -> nn.Module:
    body = [nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1)]
    body += [nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 3, padding=1)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), Residual(*body), nn.BatchNorm2d(8), Pool(8))


def grouped() -> nn.Module:
    return nn.Sequential(conv(4, 16, 1), conv(16, 16, groups=4), conv(16, 24, groups=2), Pool(24))


def resnext() -> nn.Module:
    block = Residual(conv(16, 16, 1), conv(16, 16, groups=4), nn.Conv2d(16, 16, 1))
    return nn.Sequential(conv(3, 16), block, nn.ReLU(), Pool(16))


def separable() -> nn.Module:
    return nn.Sequential(conv(3, 8), conv(8, 8, groups=8), conv(8, 16, 1), Pool(16))


def multiplied_depthwise() -> nn.Module:
    return nn.Sequential(conv(3, 8), conv(8, 16, groups=8), nn.Conv2d(16, 8, 1), Pool(8))


def inverted() -> nn.Module:
    body = [conv(8, 24, 1), conv(24, 24, groups=24), nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8)]
    return nn.Sequential(conv(3, 8), nn.ReLU6(), Residual(*body), conv(8, 16, 1), Pool(16))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.up(F.relu(self.down(scale))))


def mobile_three() -> nn.Module:
    body = [conv(8, 16, 1), nn.Hardswish(), conv(16, 16, 5, groups=16), SqueezeExcite(16, 8)]
    return nn.Sequential(conv(3, 8), Residual(*body, nn.Conv2d(16, 8, 1)), Pool(8))


class LinearSqueeze(nn.Module):
    """Squeeze and excite with linear layers and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down, self.up = conv(3, 16), nn.Linear(16, 4), nn.Linear(4, 16)
        self.head = Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, channels = x.shape[:2]
        scale = x.mean((2, 3)).view(batch, channels)
        scale = torch.sigmoid(self.up(F.silu(self.down(scale)))).view(batch, channels, 1, 1)
        return self.head(x * scale.expand_as(x))


class BlockAttention(nn.Module):
    """Channels weighed by their mean and maximum, then pixels by theirs (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = conv(3, 16)
        self.shared = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16))
        self.pixels, self.head = nn.Conv2d(2, 1, 3, padding=1), Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        weight = self.shared(x.mean((2, 3))) + self.shared(x.amax((2, 3)))
        x = x * weight.sigmoid()[:, :, None, None]
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.head(x * self.pixels(seen).sigmoid())


class ConvNext(nn.Module):
    """Depthwise convolution, norm over the last axis, a scaled residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, stride=2)
        self.depth = nn.Conv2d(12, 12, 7, padding=3, groups=12)
        self.norm, self.up, self.down = nn.LayerNorm(12), nn.Linear(12, 24), nn.Linear(24, 12)
        self.scale = nn.Parameter(torch.full((12,), 0.5))
        self.head = Pool(12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = self.norm(self.depth(x).permute(0, 2, 3, 1))
        inner = self.scale * self.down(F.gelu(self.up(inner)))
        return self.head(x + inner.permute(0, 3, 1, 2))


def one_dimension() -> nn.Module:
    body = [nn.Conv1d(8, 12, 5, padding=2), nn.BatchNorm1d(12), nn.ELU(), nn.MaxPool1d(2)]
    return nn.Sequential(nn.Conv1d(2, 8, 3), nn.GELU(), *body, Pool(12))


def three_dimensions() -> nn.Module:
    body = [nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.AvgPool3d(2)]
    return nn.Sequential(*body, nn.Conv3d(8, 8, 1), nn.LeakyReLU(), Pool(8))


def sloped() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 12, 3), nn.PReLU(), nn.Flatten()),
        *(nn.Linear(12 * 16, 16), nn.PReLU(16), nn.Linear(16, 3)),
    )


def group_normed() -> nn.Module:
    body = [nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 1)]
    return nn.Sequential(*body, nn.GroupNorm(1, 16), nn.ReLU(), Pool(16))


def instance_normed() -> nn.Module:
    body = [nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.Tanh(), nn.Conv2d(8, 8, 1)]
    return nn.Sequential(*body, nn.InstanceNorm2d(8), nn.Softplus(), Pool(8))


class AutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 4, 2, 1))
        self.up = nn.Sequential(
            *(nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
            nn.ConvTranspose2d(8, 3, 4, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.down(x)))


def grouped_transposed() -> nn.Module:
    layers = [nn.ConvTranspose2d(16, 8, 2, 2, groups=4), nn.ReLU()]
    layers += [nn.ConvTranspose2d(8, 8, 2, 2, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1)]
    return nn.Sequential(conv(3, 16), *layers)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.low = conv(3, 8), conv(8, 12), conv(12, 16)
        self.up_two, self.up_one = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 2, 2)
        self.join_two, self.join_one = conv(24, 12), conv(16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(F.max_pool2d(one, 2))
        low = self.low(F.max_pool2d(two, 2))
        two = self.join_two(torch.cat([two, self.up_two(low)], 1))
        return self.out(self.join_one(torch.cat([self.up_one(two), one], dim=1)))


class Pyramid(nn.Module):
    """Lateral convolutions, upsampled sums, one head for every scale: several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv(3, 8), conv(8, 16, stride=2)
        self.lateral_one, self.lateral_two = nn.Conv2d(8, 12, 1), nn.Conv2d(16, 12, 1)
        self.boxes, self.scores = nn.Conv2d(12, 4, 3, padding=1), nn.Conv2d(12, 2, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        one = self.one(x)
        two = self.lateral_two(self.two(one))
        one = self.lateral_one(one) + F.interpolate(two, scale_factor=2, mode="nearest")
        scales = [F.relu(one), F.relu(two)]
        boxes = [self.boxes(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for x in scales]
        scores = [self.scores(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 2) for x in scales]
        return {"boxes": torch.cat(boxes, 1), "scores": torch.cat(scores, 1)}


class Aspp(nn.Module):
    """Dilated branches and a pooled one, joined, with bilinear growth."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.branches = nn.ModuleList(
            nn.Conv2d(8, 6, 3, padding=rate, dilation=rate) for rate in (1, 2, 3)
        )
        self.pooled, self.out = nn.Conv2d(8, 6, 1), nn.Conv2d(24, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = F.interpolate(
            self.pooled(x.mean((2, 3), keepdim=True)), x.shape[2:], mode="bilinear"
        )
        joined = torch.cat([*(branch(x) for branch in self.branches), pooled], 1)
        return self.out(F.relu(joined))


class NonLocal(nn.Module):
    """Attention between pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.theta, self.phi, self.g = (nn.Conv2d(16, 8, 1) for _ in range(3))
        self.out, self.head = nn.Conv2d(8, 16, 1), Pool(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        weights = torch.softmax(theta.transpose(1, 2) @ phi, -1)
        mixed = (weights @ g.transpose(1, 2)).transpose(1, 2)
        return self.head(x + self.out(mixed.reshape(x.shape[0], 8, *x.shape[2:])))


class Twins(nn.Module):
    """Two inputs through the same layers, compared by their cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), conv(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.embed = nn.Linear(8, 12)
        self.scale = nn.Linear(1, 2)

    def seen(self, x: Tensor) -> Tensor:
        return torch.sin(9 * self.body(x))  # far from each other, as after training

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        one, other = (F.normalize(self.embed(self.seen(x)), dim=-1) for x in (one, other))
        return self.scale((one * other).sum(-1, keepdim=True))


class Detector(nn.Module):
    """Boxes per anchor: the last channels are the output's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), conv(8, 16, stride=2), conv(16, 16))
        self.head = nn.Conv2d(16, 3 * 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.body(x))
        batch, _, height, width = x.shape
        x = x.view(batch, 3, 7, height, width).permute(0, 1, 3, 4, 2)
        return torch.cat([x[..., :2].sigmoid(), x[..., 2:4].exp(), x[..., 4:].sigmoid()], -1)


IMAGE = noise(2, 3, 8, 8)
OPEN = [(2, 3)]
NETS = (
    Net("plain", plain, IMAGE, OPEN, {"0.0": 8, "2.0": 12}),
    Net("flattened", flattened, IMAGE, None, {"0.0": 8, "3": 16}),
    Net("resnet", ResNet, IMAGE, OPEN, {"stem.0": 8, "same.body.0.0": 8, "down.1": 16}),
    Net("bottleneck", bottleneck, IMAGE),
    Net("padded shortcut", PaddedShortcut, IMAGE),
    Net("preactivated", preactivated, IMAGE),
    Net("grouped convolution", grouped, noise(2, 4, 8, 8)),
    Net("resnext", resnext, IMAGE),
    Net("separable", separable, IMAGE, OPEN, {"0.0": 8, "2.0": 16}),
    Net("multiplied depthwise", multiplied_depthwise, IMAGE, None, {"0.0": 8}),
    Net("inverted", inverted, IMAGE, None, {"2.body.0.0": 24}),
    Net("mobile three", mobile_three, IMAGE),
    Net("linear squeeze", LinearSqueeze, IMAGE),
    Net("block attention", BlockAttention, IMAGE),
    Net("convnext", ConvNext, IMAGE, None, {"stem": 12, "up": 24}),
    Net("one dimension", one_dimension, noise(2, 2, 16), [(2,)]),
    Net("three dimensions", three_dimensions, noise(2, 1, 6, 6, 6)),
    Net("sloped", sloped, IMAGE),
    Net("group normed", group_normed, IMAGE),
    Net("instance normed", instance_normed, IMAGE),
    Net("autoencoder", AutoEncoder, IMAGE, OPEN, {"down.0": 8, "down.2": 12, "up.0": 8}),
    Net("grouped transposed", grouped_transposed, noise(2, 3, 4, 4)),
    Net("u-net", UNet, IMAGE, None, {"one.0": 8, "up_one": 8}),
    Net("pyramid", Pyramid, IMAGE),
    Net("atrous pyramid", Aspp, IMAGE),
    Net("non-local", NonLocal, IMAGE),
    Net("twins", Twins, lambda: (torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8))),
    Net("detector", Detector, IMAGE, OPEN),
)
