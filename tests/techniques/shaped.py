"""Small networks with every kind of width, for what is promised of structural techniques."""

import torch
from torch import Tensor, nn


class Convolutional(nn.Module):
    """An expanded, depthwise and projected block with a residual, then pooling and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.expand, self.second = nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64)
        self.depth = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.third = nn.BatchNorm2d(64)
        self.project, self.fourth = nn.Conv2d(64, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.wide, self.last = nn.Conv2d(16, 32, 3), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x)).relu()
        inner = self.second(self.expand(x)).relu()
        inner = self.third(self.depth(inner)).relu()
        x = x + self.fourth(self.project(inner))
        return self.last(self.wide(x).relu().mean((2, 3)))


class Encoder(nn.Module):
    """Attention heads and a feed-forward part in a residual stream with norms."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.heads = nn.Linear(12, 32), 4
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(32, 32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.norm, self.after, self.last = nn.LayerNorm(32), nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        batch, length, _ = x.shape
        parts = [part(self.norm(x)) for part in (self.query, self.key, self.value)]
        heads = [part.view(batch, length, self.heads, 8).transpose(1, 2) for part in parts]
        query, key, value = heads
        mixed = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        x = x + self.down(nn.functional.gelu(self.up(self.after(x))))
        return self.last(x).mean(1)


class Listener(nn.Module):
    """A recurrent layer between a convolution and an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(4, 24, 3, padding=1), nn.LSTM(24, 32, batch_first=True)
        self.last = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.conv(x).relu().transpose(1, 2)
        return self.last(self.lstm(seen)[0][:, -1])


class Block(nn.Module):
    """Attention and a feed-forward part, each behind a norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm, self.after = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.act = nn.Linear(width, width), nn.GELU()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        heads = [
            part(seen).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(self.act(self.up(self.after(x))))


class Vision(nn.Module):
    """Convolutions of 5 and 3, their positions as tokens, then three blocks of one structure."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.second = nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(16, 32, 3, stride=3)
        self.blocks = nn.ModuleList(Block(32, 4) for _ in range(3))
        self.norm, self.last = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.stem(x).relu()).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.last(self.norm(x).mean(1))


class Reader(nn.Module):
    """Words, one block and scores for words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.block, self.last = nn.Embedding(20, 16), Block(16, 2), nn.Linear(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(self.words(x)))


def spread_out(model: nn.Module, inputs: Tensor) -> nn.Module:
    """A model in evaluation mode whose units differ and whose norms have seen inputs."""
    made = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                scale = torch.rand(len(parameter), generator=made) + 0.2
                parameter *= scale.reshape(-1, *[1] * (parameter.ndim - 1))
        for _ in range(20):
            model.train()(inputs)
    return model.eval()


def made(kind: type[nn.Module]) -> tuple[nn.Module, Tensor, list[Tensor]]:
    """A model, one example batch and calibration batches, the same each time."""
    shapes = {
        Convolutional: (3, 12, 12),
        Encoder: (6, 12),
        Listener: (4, 10),
        Vision: (3, 12, 12),
    }
    seed = torch.Generator().manual_seed(0)
    if kind is Reader:
        batches = [torch.randint(0, 20, (8, 6), generator=seed) for _ in range(8)]
    else:
        batches = [torch.randn(8, *shapes[kind], generator=seed) for _ in range(8)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return spread_out(kind(), batches[0]), batches[0][:2], batches


MODELS = (Convolutional, Encoder, Listener)
BLOCKS = (Vision,)
BY_WIDTH = ("grow_classes", "grow_width")


def models_of(kind: type) -> tuple[type[nn.Module], ...]:
    """Networks that a technique can change."""
    if kind.name == "grow_vocabulary":
        return (Reader,)
    return MODELS if kind.family == "narrow" or kind.name in BY_WIDTH else BLOCKS
