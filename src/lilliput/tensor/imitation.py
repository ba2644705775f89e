"""How far a student is from its teacher: answers, features, attention and relations."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALL = 1e-12


def softened(scores: Tensor, temperature: float, *, probabilities: bool) -> Tensor:
    """Log-probabilities of class scores at a temperature, over the last axis.

    Args:
        scores: (..., C): logits, or probabilities.
        temperature: Above 0; above 1 evens the classes out.
        probabilities: Whether the scores are probabilities.
    """
    scores = scores.float()
    logits = scores.clamp(min=_SMALL).log() if probabilities else scores
    return torch.log_softmax(logits / temperature, -1)


def answer_divergence(student: Tensor, teacher: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """Mean KL divergence in nats from the teacher's answers to the student's.

    Args:
        student: Log-probabilities (..., C).
        teacher: Probabilities (..., C).
        counted: (...), which positions count; None for all.
    """
    nats = (torch.xlogy(teacher, teacher) - teacher * student).sum(-1)
    return mean_over(nats, counted)


def mean_over(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean of values (...) over the positions that count; zero where none does."""
    if counted is None:
        return values.mean()
    real = counted.to(values.dtype)
    return (values * real).sum() / real.sum().clamp(min=1)


def relative_error(student: Tensor, teacher: Tensor, *, counted: Tensor | None = None) -> Tensor:
    """Squared error over the teacher's squared size, both summed over what counts.

    Args:
        student: (N, ...).
        teacher: The same shape.
        counted: (N, T), which positions of (N, T, ...) count; None for all.
    """
    error, size = (student - teacher).square(), teacher.square()
    if counted is not None:
        real = counted.to(error.dtype).reshape(*counted.shape, *[1] * (error.ndim - counted.ndim))
        error, size = error * real, size * real
    return error.sum() / size.sum().clamp(min=_SMALL)


def attention_map(features: Tensor) -> Tensor:
    """Where a convolutional layer looks: (N, C, ...) -> (N, positions) of length 1.

    The mean of the squares over the channels (Zagoruyko and Komodakis 2017, arXiv 1612.03928).
    """
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


def value_relations(values: Tensor, heads: int) -> Tensor:
    """How alike the values of positions are: (N, T, F) -> log-probabilities (N, heads, T, T).

    Scaled products between positions (MiniLM: Wang et al. 2020, arXiv 2002.10957, 2012.15828).
    """
    parts = values.reshape(*values.shape[:2], heads, -1).transpose(1, 2)  # (N, heads, T, F/heads)
    products = parts @ parts.transpose(-1, -2) / math.sqrt(parts.shape[-1])
    return torch.log_softmax(products, -1)


def distances(embeddings: Tensor) -> Tensor:
    """Distances between examples over their mean: (N, F) -> (N, N)."""
    squares = (embeddings[:, None] - embeddings[None]).square().sum(-1)
    apart = ~torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    found = torch.where(apart, squares.clamp(min=_SMALL), 1).sqrt() * apart
    return found / (found.sum() / apart.sum().clamp(min=1)).clamp(min=_SMALL)


def angles(embeddings: Tensor) -> Tensor:
    """Cosines of the angles that pairs of examples make at a third: (N, F) -> (N, N, N)."""
    ways = F.normalize(embeddings[None] - embeddings[:, None], dim=-1)  # (N, N, F)
    return ways @ ways.transpose(1, 2)
