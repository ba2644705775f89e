"""Small networks of every family, for what is promised of growth."""

import torch
from torch import Tensor, nn

IMAGES, SEQUENCES, WORDS = (2, 3, 8, 8), (2, 7, 5), (2, 6)


class Inverted(nn.Module):
    """Expanded, convolved in groups (one per channel where 0) and projected, with a residual."""

    def __init__(self, groups: int = 0) -> None:
        super().__init__()
        self.expand, self.first = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.inner = nn.Conv2d(16, 16, 3, padding=1, groups=groups or 16)
        self.second, self.project = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(self.first(self.expand(x)).relu())
        return x + self.project(self.second(inner).clamp(0, 6))


class Residual(nn.Module):
    """Two convolutions with BatchNorm; the activation follows the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.first, self.second = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.two(self.first(self.one(x)).relu()))).relu()


class Images(nn.Module):
    """A stem, blocks, a concatenation and classes behind a flattened map."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*blocks)
        self.head, self.last = nn.Conv2d(16, 12, 3, stride=2), nn.Linear(12 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        both = torch.cat([x, self.blocks(x)], 1)
        return self.last(self.head(both).relu().flatten(1))


class Attributes(nn.Module):
    """Blocks that are attributes, not in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 3), Residual(), Residual()
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.two(self.one(self.stem(x).relu())).mean((2, 3)))


class Upsampling(nn.Module):
    """Group norm, a slope per channel, a transposed convolution and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.slope = nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.PReLU(8)
        self.up, self.mix = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(6, 16, 1)
        self.shuffle, self.last = nn.PixelShuffle(2), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.slope(self.norm(self.stem(x)))).relu()
        return self.last(self.shuffle(self.mix(x)))


class Recurrent(nn.Module):
    """A recurrent layer between two linear ones."""

    def __init__(self, kind: type[nn.RNNBase], *, both: bool = False) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 8)
        self.cell = kind(8, 6, num_layers=2, batch_first=True, bidirectional=both)
        self.last = nn.Linear(12 if both else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(self.enter(x).relu())[0]).mean(1)


class Layer(nn.Module):
    """Grouped queries and a gated linear unit; norms lie before them, or behind the sums."""

    def __init__(self, *, first: bool = True) -> None:
        super().__init__()
        self.heads, self.pairs, self.first = 4, 2, first
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.out, self.up, self.gate = nn.Linear(16, 16), nn.Linear(16, 24), nn.Linear(16, 24)
        self.down, self.before, self.after = nn.Linear(24, 16), nn.LayerNorm(16), nn.LayerNorm(16)

    def attend(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query = self.query(x).view(batch, length, self.heads, 4).transpose(1, 2)
        key, value = (
            part(x).view(batch, length, self.pairs, 4).transpose(1, 2).repeat_interleave(2, 1)
            for part in (self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))

    def feed(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self.attend(self.before(x))
            return x + self.feed(self.after(x))
        x = self.before(x + self.attend(x))
        return self.after(x + self.feed(x))


class Language(nn.Module):
    """Words, layers and scores for words, tied or not."""

    def __init__(self, *, tied: bool = False, first: bool = True) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 16)
        self.layers = nn.ModuleList(Layer(first=first) for _ in range(3))
        self.scores = nn.Linear(16, 20, bias=not tied)
        if tied:
            self.scores.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        for layer in self.layers:
            x = layer(x)
        return self.scores(x)


class Patches(nn.Module):
    """A convolution into patches, a table of positions behind one more token, and classes."""

    def __init__(self, extra: int = 1) -> None:
        super().__init__()
        self.image_size, self.num_patches = (16, 12), 12
        self.cut, self.token = nn.Conv2d(3, 12, 4, 4), nn.Parameter(torch.randn(1, extra, 12))
        self.positions, self.last = nn.Parameter(torch.randn(1, 12 + extra, 12)), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != self.image_size:
            raise ValueError(f"images are {self.image_size}")
        parts = self.cut(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), parts], 1) + self.positions
        return self.last(tokens.tanh()).mean(1)


class LookedUp(nn.Module):
    """Patches whose positions are an embedding, looked up as a whole.

    Args:
        numbers: Where the numbers are: ``kept`` in a buffer, one that is ``passing``, ``counted``
            off the patches, or ``written`` in the code.
        rows: Of the table; one for each of the 12 patches.
    """

    def __init__(self, numbers: str, rows: int = 12) -> None:
        super().__init__()
        self.numbers, self.cut, self.last = numbers, nn.Conv2d(3, 12, 4, 4), nn.Linear(12, 3)
        self.positions = nn.Embedding(rows, 12)
        if numbers in ("kept", "passing"):
            ids = torch.arange(rows).expand(1, -1)
            self.register_buffer("ids", ids, persistent=numbers == "kept")

    def forward(self, x: Tensor) -> Tensor:
        parts = self.cut(x).flatten(2).transpose(1, 2)
        if self.numbers == "counted":
            ids = torch.arange(parts.shape[1])
        else:
            ids = torch.arange(12) if self.numbers == "written" else self.ids
        table = self.positions(ids)
        return self.last((parts + table[..., : max(12, parts.shape[1]), :]).tanh()).mean(1)


def plain() -> nn.Module:
    """A plain stack of convolutions, activations and a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 2), nn.ReLU6()),
        *(nn.Flatten(), nn.Linear(6 * 25, 4)),
    )


FAMILIES = {
    "plain": (plain, IMAGES),
    "depthwise": (lambda: Images(Inverted(), Inverted()), IMAGES),
    "grouped": (lambda: Images(Inverted(4), Inverted(4)), IMAGES),
    "residual": (lambda: Images(Residual(), Residual()), IMAGES),
    "attributes": (Attributes, IMAGES),
    "upsampling": (Upsampling, IMAGES),
    "lstm": (lambda: Recurrent(nn.LSTM), SEQUENCES),
    "lstm both ways": (lambda: Recurrent(nn.LSTM, both=True), SEQUENCES),
    "gru": (lambda: Recurrent(nn.GRU), SEQUENCES),
    "norms before": (Language, WORDS),
    "norms behind": (lambda: Language(first=False), WORDS),
    "tied": (lambda: Language(tied=True), WORDS),
}


def family(name: str) -> tuple[nn.Module, Tensor]:
    """A network of a family in evaluation mode, its norms far from where they start."""
    build, shape = FAMILIES[name]
    return build_with(build, shape)


def build_with(build: object, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    """A network and one batch, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()  # type: ignore[operator]
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
        inputs = torch.randint(0, 20, shape) if shape == WORDS else torch.randn(shape)
    return model.eval(), inputs
