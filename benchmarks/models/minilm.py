"""MiniLM sentence encoder, 22.6 M weights: text -> embedding of length 1.

Calibration on film sentences; measured on sentences of three other kinds: newspaper editorials,
product reviews and tweets. The error is the relative embedding error (`relative_error`).
"""

import torch
from examples.demo_task import SentenceEncoder, encode, rated_sentences
from torch.nn.utils.rnn import pad_sequence

from benchmarks.models import Inputs, Subject, relative_error

CALIBRATION = 512
TEST_EACH = 170
TEST_CORPORA = ("nytEditorialSnippets", "amazonReviewSnippets", "tweets")


def draw(corpus: str, count: int, seed: int) -> list[str]:
    """`count` different sentences of a corpus, in an order drawn by `seed`."""
    texts = list(dict.fromkeys(text for _, text in rated_sentences(corpus)))
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))
    return [texts[i] for i in order[:count].tolist()]


def batches(texts: list[str], size: int = 64) -> tuple[Inputs, ...]:
    """Padded batches of texts of similar length."""
    inputs = sorted(encode(texts), key=lambda each: len(each["input_ids"]))
    names = ("input_ids", "attention_mask")
    return tuple(
        {n: pad_sequence([x[n] for x in inputs[i : i + size]], batch_first=True) for n in names}
        for i in range(0, len(inputs), size)
    )


def load(seed: int) -> Subject:
    """The encoder, 512 calibration sentences and 510 test sentences."""
    model = SentenceEncoder().eval().requires_grad_(False)
    test = [text for corpus in TEST_CORPORA for text in draw(corpus, TEST_EACH, seed)]
    return Subject(
        name="minilm",
        model=model,
        calibration=batches(draw("movieReviewSnippets", CALIBRATION, seed)),
        test=batches(test),
        errors=relative_error,
        sites=tuple(
            name
            for name, value in model.named_parameters()
            if value.ndim == 2 and "embeddings" not in name
        ),
    )
