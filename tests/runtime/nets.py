"""Small models with the traits that make exported weights hard to find again."""

import torch
from torch import Tensor, nn


class Language(nn.Module):
    """Tied embedding, packed query/key/value weight, equal norms, equal layers, a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
        self.second.load_state_dict(self.first.state_dict())
        self.raw = nn.Parameter(torch.randn(32, 32))
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor, scale: Tensor) -> dict[str, Tensor]:
        hidden = self.layer(self.embed(tokens)) * scale[:, None]
        hidden = self.second(self.first(hidden).relu()) @ self.raw
        return {"logits": self.head(hidden), "hidden": hidden}


class Convolutions(nn.Module):
    """Folded BatchNorm, a depthwise layer, one whose weight is larger than a plain one, a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.up, self.norm_up = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)
        for norm in (self.norm, self.norm_up):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 2)
            norm.bias.data.normal_()

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.deep(self.norm(self.stem(image)).relu())
        hidden = self.norm_up(self.up(hidden)).relu()
        return self.head(hidden.mean((2, 3)))


class Recurrent(nn.Module):
    """A two-layer bidirectional LSTM, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(16, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, sound: Tensor) -> Tensor:
        hidden, _ = self.lstm(sound)
        hidden, _ = self.gru(hidden)
        return self.head(hidden[:, -1])
