"""Attention: heads, key-value groups, rotary positions, and whole small transformers."""

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.parts import Net, Residual, noise, words

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Fused(nn.Module):
    """One product for query, key and value, as vision transformers write it."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        weights = ((query * self.scale) @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, length, width))


class Separate(nn.Module):
    """Own products for query, key and value; the number of heads may be written in the code."""

    def __init__(self, literal: bool = False) -> None:
        super().__init__()
        self.heads, self.size, self.literal = 4, 4, literal
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)

    def _heads(self, x: Tensor) -> Tensor:
        if self.literal:
            return x.view(x.shape[0], -1, 4, 4).transpose(1, 2)
        return x.view(x.shape[0], -1, self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return self.out(
            mixed.reshape(x.shape[0], -1, 16 if self.literal else self.heads * self.size)
        )


class Grouped(nn.Module):
    """More heads for queries than for keys and values."""

    def __init__(self, groups: int = 2, native: bool = False) -> None:
        super().__init__()
        self.heads, self.groups, self.native = 4, groups, native
        self.query, self.out = nn.Linear(16, 16), nn.Linear(16, 16)
        self.key, self.value = nn.Linear(16, 4 * groups), nn.Linear(16, 4 * groups)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query = self.query(x).view(batch, length, self.heads, 4).transpose(1, 2)
        key, value = (
            part(x).view(batch, length, self.groups, 4).transpose(1, 2)
            for part in (self.key, self.value)
        )
        if not self.native:
            times = self.heads // self.groups
            key, value = (part.repeat_interleave(times, dim=1) for part in (key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, enable_gqa=self.native)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, -1))


class Rotary(nn.Module):
    """Positions turn pairs of halves of a head."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.register_buffer("rates", 1.0 / 10 ** torch.arange(0, 1, 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        angles = torch.arange(length)[:, None] * self.rates
        angles = torch.cat([angles, angles], -1)

        def turned(one: Tensor) -> Tensor:
            low, high = one[..., :2], one[..., 2:]
            return one * angles.cos() + torch.cat([-high, low], -1) * angles.sin()

        parts = [
            part(x).view(batch, length, -1, 4).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        mixed = F.scaled_dot_product_attention(turned(parts[0]), turned(parts[1]), parts[2])
        return self.out(mixed.transpose(1, 2).flatten(2))


class Biased(nn.Module):
    """A learned bias per head and distance, a temperature per head, fixed slopes per head."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.table = nn.Parameter(torch.randn(9, 4))
        self.temperature = nn.Parameter(torch.ones(4, 1, 1))
        place = torch.arange(5)
        self.register_buffer("distance", place[:, None] - place[None] + 4)
        self.register_buffer("slopes", torch.logspace(-1, -4, 4, 2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = (
            part.view(batch, length, self.heads, 4).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        bias = self.table[self.distance.view(-1)].view(5, 5, -1).permute(2, 0, 1)
        bias = bias - self.slopes[:, None, None] * (self.distance - 4).abs()
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        weights = (scores * self.temperature + bias.unsqueeze(0)).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, length, -1))


class Windows(nn.Module):
    """Swin: attention inside of windows, shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm, self.inner = nn.Conv2d(3, 16, 1), nn.LayerNorm(16), Fused()
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).permute(0, 2, 3, 1)
        batch, height, width, channels = x.shape
        inner = torch.roll(self.norm(x), (-1, -1), (1, 2))
        inner = inner.view(batch, height // 2, 2, width // 2, 2, channels)
        inner = inner.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, channels)
        inner = self.inner(inner).view(batch, height // 2, width // 2, 2, 2, channels)
        inner = inner.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
        return self.out((x + torch.roll(inner, (1, 1), (1, 2))).mean((1, 2)))


class Vision(nn.Module):
    """Patches, a class token, learned positions, blocks, the class token's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 5, 16))
        self.blocks = nn.Sequential(
            Residual(nn.LayerNorm(16), Fused()),
            Residual(nn.LayerNorm(16), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)),
        )
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Within(nn.Module):
    """Attention of any kind in a residual stream between two products."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.enter, self.norm, self.attention = nn.Linear(6, 16), nn.LayerNorm(16), attention
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.last(x + self.attention(self.norm(x)))


class Stock(nn.Module):
    """`nn.MultiheadAttention` on itself and on another sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.other = nn.Linear(6, 16), nn.Linear(3, 16)
        self.own = nn.MultiheadAttention(16, 4, batch_first=True)
        self.cross = nn.MultiheadAttention(16, 2)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        x, other = self.enter(x), self.other(other).transpose(0, 1)
        x = x + self.own(x, x, x, need_weights=False)[0]
        mixed, _ = self.cross(x.transpose(0, 1), other, other)
        return self.out(x + mixed.transpose(0, 1))


def encoder(first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=first)
    return nn.Sequential(nn.Linear(6, 16), layer, nn.Linear(16, 3))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.memory = nn.Linear(6, 16), nn.Linear(4, 16)
        self.layer = nn.TransformerDecoderLayer(16, 2, 24, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        return self.out(self.layer(self.enter(x), self.memory(memory), tgt_mask=mask))


class Queries(nn.Module):
    """Learned queries look at the inputs (Perceiver)."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(3, 16))
        self.key, self.value, self.out = nn.Linear(6, 16), nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.latents @ self.key(x).transpose(1, 2) / 4, -1)
        return self.out(weights @ self.value(x))


class LinearAttention(nn.Module):
    """Attention without a softmax, written in letters."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 4
        self.qkv, self.out = nn.Linear(6, 48), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        query, key, value = self.qkv(x).view(batch, length, 3, self.heads, 4).unbind(2)
        query, key = F.elu(query) + 1, F.elu(key) + 1
        memory = torch.einsum("bnhd,bnhe->bhde", key, value)
        scale = torch.einsum("bnhd,bhd->bnh", query, key.sum(1))
        mixed = torch.einsum("bnhd,bhde->bnhe", query, memory) / scale[..., None]
        return self.out(mixed.reshape(batch, length, -1))


def bert(attention: str) -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        **{"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"intermediate_size": 24, "max_position_embeddings": 8, "attn_implementation": attention},
    )
    return Hidden(BertModel(config, add_pooling_layer=False), 16)


class Hidden(nn.Module):
    """Tokens -> a transformer's hidden states -> classes per token."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.body(input_ids, attention_mask=attention_mask).last_hidden_state)


def llama(groups: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        **{"vocab_size": 11, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": groups, "intermediate_size": 24, "max_position_embeddings": 16},
        **{"head_dim": 4, "use_cache": False},
    )
    return Hidden(LlamaModel(config), 16)


def distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertModel

    config = DistilBertConfig(
        **{"vocab_size": 11, "dim": 16, "n_layers": 1, "n_heads": 4, "hidden_dim": 24},
        max_position_embeddings=8,
    )
    return Hidden(DistilBertModel(config), 16)


class Logits(nn.Module):
    """A causal language model's logits."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.body(input_ids, use_cache=False).logits


def gpt_two() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        **{"vocab_size": 11, "n_positions": 8, "n_embd": 16, "n_layer": 1, "n_head": 4},
        **{"n_inner": 24, "bos_token_id": 0, "eos_token_id": 0},
    )
    return Logits(GPT2LMHeadModel(config))


def t_five() -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        **{"vocab_size": 11, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4},
        feed_forward_proj="gated-gelu",
    )
    return Hidden(T5EncoderModel(config), 16)


def masked() -> dict[str, Tensor]:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": torch.randint(0, 11, (2, 6)), "attention_mask": mask}


ROWS = noise(2, 5, 6)
OPEN = [(1,)]
TEXT = {"input_ids": [1], "attention_mask": [1]}
NETS = (
    Net("fused heads", lambda: Within(Fused()), ROWS, OPEN, {"enter": 16, "attention.qkv": 4}),
    Net("separate heads", lambda: Within(Separate()), ROWS, OPEN, {"attention.query": 4}),
    Net("hard-coded heads", lambda: Within(Separate(literal=True)), ROWS, OPEN),
    Net("key-value groups", lambda: Within(Grouped()), ROWS, OPEN, {"attention.query": 2}),
    Net("native groups", lambda: Within(Grouped(native=True)), ROWS, OPEN, {"attention.query": 2}),
    Net("one key", lambda: Within(Grouped(groups=1)), ROWS, OPEN),
    Net("rotary", lambda: Within(Rotary()), ROWS, OPEN, {"attention.query": 4}),
    Net("biased heads", lambda: Within(Biased()), ROWS, None, {"attention.qkv": 4}),
    Net("windows", Windows, noise(2, 3, 4, 4)),
    Net("vision", Vision, noise(2, 3, 8, 8), None, {"patch": 16, "blocks.0.body.1.qkv": 4}),
    Net("stock attention", Stock, lambda: (torch.randn(2, 5, 6), torch.randn(2, 4, 3))),
    Net("encoder layer", lambda: encoder(first=False), ROWS),
    Net("encoder layer, norm first", lambda: encoder(first=True), ROWS),
    Net("decoder layer", Decoder, lambda: (torch.randn(2, 5, 6), torch.randn(2, 3, 4))),
    Net("learned queries", Queries, ROWS),
    Net("linear attention", LinearAttention, ROWS, OPEN, {"qkv": 4}),
    Net("bert", lambda: bert("sdpa"), masked, TEXT),
    Net("bert, eager", lambda: bert("eager"), masked, TEXT),
    Net("distilbert", distilbert, masked, TEXT),
    Net("llama", lambda: llama(2), masked, TEXT),
    Net("gpt-2", gpt_two, words(2, 5)),
    Net("t5 encoder", t_five, masked),
)
