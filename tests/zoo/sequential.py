"""Rows and sequences: dense layers, recurrent ones, products with plain parameters."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.parts import Net, Residual, noise, words


def dense() -> nn.Module:
    hidden = [nn.Linear(6, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.3)]
    return nn.Sequential(*hidden, nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))


def normed() -> nn.Module:
    body = Residual(nn.LayerNorm(12), nn.Linear(12, 16), nn.Mish(), nn.Linear(16, 12))
    return nn.Sequential(nn.Linear(6, 12), body, nn.RMSNorm(12), nn.Linear(12, 3))


class Transposed(nn.Module):
    """The last two axes change places around a body."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.transpose(1, 2)).transpose(1, 2)


def mixer() -> nn.Module:
    tokens = Transposed(nn.Linear(5, 8), nn.GELU(), nn.Linear(8, 5))
    channels = Residual(nn.LayerNorm(12), nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 12))
    return nn.Sequential(
        nn.Linear(6, 12), Residual(nn.LayerNorm(12), tokens), channels, nn.Linear(12, 3)
    )


class SpatialGate(nn.Module):
    """gMLP: half of the channels gates the other along the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm, self.space = nn.Linear(6, 16), nn.LayerNorm(8), nn.Conv1d(5, 5, 1)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        passed, gate = F.gelu(self.enter(x)).chunk(2, dim=-1)
        return self.out(passed * self.space(self.norm(gate)))


class RootMean(nn.Module):
    """A root-mean-square norm written by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class HandNorm(nn.Module):
    """A layer norm written by hand, with its variance."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(6, 12), nn.Linear(12, 3)
        self.scale, self.shift = nn.Parameter(torch.ones(12)), nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        centred = x - x.mean(-1, keepdim=True)
        variance = x.var(-1, unbiased=False, keepdim=True)
        return self.out(centred / (variance + 1e-5).sqrt() * self.scale + self.shift)


class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(6, 12), RootMean(12)
        self.gate, self.up, self.down = nn.Linear(12, 24), nn.Linear(12, 24), nn.Linear(24, 12)
        self.out = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        inner = self.norm(x)
        return self.out(x + self.down(F.silu(self.gate(inner)) * self.up(inner)))


class Plain(nn.Module):
    """Weights that belong to no layer, right, left and added."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.shift = nn.Parameter(torch.randn(6, 12)), nn.Parameter(torch.randn(12))
        self.two, self.three = nn.Parameter(torch.randn(12, 8)), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ self.one + self.shift)
        x = torch.matmul(x, self.two)
        return torch.addmm(torch.ones(3), x, self.three.t())


class Letters(nn.Module):
    """Products written in letters: a head axis in the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Parameter(torch.randn(8, 4, 3) / 3) for _ in "qkv")
        self.out, self.enter, self.last = (
            nn.Parameter(torch.randn(4, 3, 8)),
            nn.Linear(6, 8),
            nn.Linear(8, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        query, key, value = (
            torch.einsum("btd,dhk->bhtk", x, weight)
            for weight in (self.query, self.key, self.value)
        )
        weights = torch.einsum("bhtk,bhsk->bhts", query, key).softmax(-1)
        mixed = torch.einsum("bhts,bhsk->bthk", weights, value)
        return self.last(torch.einsum("bthk,hkd->btd", mixed, self.out))


class Tied(nn.Module):
    """The table of words is also the last product."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden = nn.Embedding(11, 8), nn.Linear(8, 12)
        self.back, self.out = nn.Linear(12, 8), nn.Linear(8, 11, bias=False)
        self.out.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.back(F.relu(self.hidden(self.table(ids)))))


class Cosine(nn.Module):
    """Rows of length one, compared with weights of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.classes = nn.Linear(6, 12), nn.Parameter(torch.randn(4, 12))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(F.relu(self.enter(x)), dim=1), F.normalize(self.classes, dim=1))


class Recurrent(nn.Module):
    """Embedding, a recurrent layer of any kind, the last state."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.table, self.layer, self.out = nn.Embedding(11, 6), layer, nn.Linear(width, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.layer(self.table(ids))[0][:, -1])


class States(nn.Module):
    """The last states of both directions, joined; the first ones are given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(6, 8, num_layers=1, bidirectional=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(2, x.shape[0], 8)
        _, (last, _) = self.layer(x.transpose(0, 1), (start, start))
        return self.out(torch.cat([last[0], last[1]], 1))


class Unrolled(nn.Module):
    """A cell called step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.state, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], 8)
        for step in range(4):
            hidden = torch.tanh(self.enter(x[:, step]) + self.state(hidden))
        return self.out(hidden)


class Crnn(nn.Module):
    """Columns of an image read from left to right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.lstm, self.out = (
            nn.LSTM(8 * 4, 6, bidirectional=True, batch_first=True),
            nn.Linear(12, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv(x), 2)
        batch, channels, height, width = x.shape
        x = x.permute(0, 3, 1, 2).reshape(batch, width, channels * height)
        return self.out(self.lstm(x)[0]).log_softmax(-1)


class WordWindows(nn.Module):
    """Convolutions of several lengths over words, the largest answer of each."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.layers = nn.ModuleList(nn.Conv1d(8, 6, size) for size in (2, 3))
        self.out = nn.Linear(12, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids).permute(0, 2, 1)
        found = [F.relu(layer(x)).max(dim=2).values for layer in self.layers]
        return self.out(torch.cat(found, dim=1))


class AttentionPool(nn.Module):
    """A recurrent encoder whose states are weighed by a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.score = (
            nn.GRU(6, 8, batch_first=True),
            nn.Sequential(nn.Linear(8, 4), nn.Tanh()),
        )
        self.one, self.out = nn.Linear(4, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        weights = self.one(self.score(states)).softmax(dim=1)
        return self.out((weights * states).sum(dim=1))


class Variational(nn.Module):
    """Mean and log variance from one product; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.code = nn.Linear(6, 16), nn.Linear(16, 8)
        self.hidden, self.out = nn.Linear(4, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.code(F.relu(self.enter(x))).chunk(2, dim=1)
        return self.out(F.relu(self.hidden(mean + 0.1 * torch.exp(spread / 2)))), spread.exp().sum(
            1
        )


class Neighbours(nn.Module):
    """A graph network with a fixed set of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.eye(5) * 0.5 + 0.1)
        self.one, self.two = nn.Linear(6, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.edges @ self.two(F.relu(self.edges @ self.one(x)))


class Conformer(nn.Module):
    """Pointwise products with a gate, a depthwise convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(6, 8), nn.LayerNorm(8)
        self.gate, self.depth = nn.Conv1d(8, 24, 1), nn.Conv1d(12, 12, 3, padding=1, groups=12)
        self.batch, self.back, self.out = nn.BatchNorm1d(12), nn.Conv1d(12, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        inner = F.glu(self.gate(self.norm(x).transpose(1, 2)), dim=1)
        inner = self.back(F.silu(self.batch(self.depth(inner))))
        return self.out(x + inner.transpose(1, 2))


class Unflat(nn.Module):
    """Rows to maps and back by unflatten and flatten, with sizes in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.conv, self.out = (
            nn.Linear(6, 64),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.Linear(96, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.enter(x)).unflatten(1, (4, 4, 4))
        return self.out(torch.flatten(F.relu(self.conv(x)), 1))


class Crossed(nn.Module):
    """Embeddings of fields, their pairwise products (factorisation machine), and a tower."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(11, 8) for _ in range(3))
        self.tower = nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 1))

    def forward(self, ids: Tensor) -> Tensor:
        fields = [table(ids[:, place]) for place, table in enumerate(self.tables)]
        total, squares = sum(fields), sum(field.square() for field in fields)
        pairs = 0.5 * (total.square() - squares).sum(1, keepdim=True)
        return self.tower(torch.cat(fields, 1)) + pairs


ROWS = noise(2, 5, 6)
NETS = (
    Net("dense layers", dense, noise(2, 6), None, {"0": 16, "4": 12}),
    Net("normed residual", normed, noise(2, 6)),
    Net("mixer", mixer, ROWS),
    Net("spatial gate", SpatialGate, ROWS),
    Net("norm by hand", HandNorm, ROWS, None, {"enter": 12}),
    Net("swiglu", SwiGlu, ROWS, [(1,)], {"enter": 12, "gate": 24}),
    Net("plain parameters", Plain, noise(2, 6), None, {"one": 12, "two": 8}),
    Net("letters", Letters, ROWS, None, {"enter": 8, "query": 4}),
    Net("tied words", Tied, words(2, 5), [(1,)], {"table": 8, "hidden": 12}),
    Net("cosine", Cosine, noise(2, 6), None, {"enter": 12}),
    Net("lstm", lambda: Recurrent(nn.LSTM(6, 8, batch_first=True), 8), words(2, 5)),
    Net(
        "deep lstm in both directions",
        lambda: Recurrent(nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True), 16),
        words(2, 5),
    ),
    Net("gru", lambda: Recurrent(nn.GRU(6, 8, 2, batch_first=True, bias=False), 8), words(2, 5)),
    Net("plain recurrent", lambda: Recurrent(nn.RNN(6, 8, batch_first=True), 8), words(2, 5)),
    Net("states", States, ROWS),
    Net("unrolled", Unrolled, ROWS),
    Net("image to text", Crnn, noise(2, 1, 8, 12)),
    Net("word windows", WordWindows, words(2, 6)),
    Net("attention pool", AttentionPool, ROWS),
    Net("variational", Variational, noise(2, 6)),
    Net("neighbours", Neighbours, ROWS),
    Net("conformer", Conformer, ROWS),
    Net("unflattened", Unflat, noise(2, 6)),
    Net("crossed", Crossed, words(2, 3)),
)
