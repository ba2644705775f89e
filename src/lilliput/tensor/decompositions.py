"""A convolution's weight as a chain of smaller ones: nearest in the plain sense, then by damage.

Each decomposition is done in the square roots of the channels' sides of the metric, where plain
distance is nearly damage, and turned back; then the factors take turns under the whole metric.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lilliput.tensor.low_rank import best_products
from lilliput.tensor.products import SWEEPS, Metric, alternated, marginal
from lilliput.tensor.second_order import damped

Decompose = Callable[[Tensor], Sequence[Tensor]]  # (out, in, *kernel) -> factors, first to last
TUCKER_ROUNDS = 5
CP_ROUNDS = 60
RIDGE = 1e-9  # of the mean of a Gram matrix's diagonal


def decomposed(
    weight: Tensor, metric: Metric, *, decompose: Decompose, sweeps: int = SWEEPS
) -> list[Tensor]:
    """The factors that lose little under the metric.

    Args:
        weight: (out, in, *kernel).
        metric: Over its (out, in * taps) matrix.
        decompose: Splits a weight of the same shape; its first factor reads the input channels and
            its last one writes the output channels.
        sweeps: How often each factor has its turn.

    Returns:
        Factors in the layout of convolutions.
    """
    kernel = weight.shape[2:]
    channels = marginal(metric.second, kernel, walked=[1] * len(kernel))
    inner = torch.linalg.cholesky(damped(channels)).float()  # L of H = L L^T
    side = torch.diag(metric.output) if metric.output.dim() == 1 else metric.output
    outer = torch.linalg.cholesky(damped(side)).float()  # R of G = R R^T
    plain = torch.einsum("po,pi...,ij->oj...", outer, weight, inner)
    first, *middle, last = decompose(plain)
    first = torch.einsum("rj...,ji->ri...", first, torch.linalg.inv(inner))
    last = torch.einsum("op,pr...->or...", torch.linalg.inv(outer).t(), last)
    return alternated(
        [first, *middle, last],
        weight=weight.reshape(len(weight), -1),
        metric=metric,
        sweeps=sweeps,
    )


def tucker2(weight: Tensor, *, numbers: float = 0.0, rank: int = 0) -> list[Tensor]:
    """(r, in, 1, 1), (s, r, *kernel), (out, s, 1, 1): Tucker-2 by orthogonal iteration (HOOI).

    De Lathauwer et al. 2000; for convolutions Kim et al. 2016, arXiv 1511.06530.

    Args:
        weight: (out, in, *kernel).
        numbers: The factors hold at most so many; r and s share them out so that the energy that
            is left out is least.
        rank: Both r and s instead, as far as there are channels; 0 leaves it to `numbers`.
    """
    out, inside, *kernel = weight.shape
    flat = weight.reshape(out, inside, -1)
    if rank:
        inner, outer = min(rank, inside), min(rank, out)
    else:
        inner, outer = _tucker_ranks(flat, numbers)
    left = _leading(_gram(flat, 0), outer)  # (out, s)
    for _ in range(TUCKER_ROUNDS):
        right = _leading(_gram(torch.einsum("oik,os->sik", flat, left), 1), inner)  # (in, r)
        left = _leading(_gram(torch.einsum("oik,ir->ork", flat, right), 0), outer)
    core = torch.einsum("oik,os,ir->srk", flat, left, right)
    ones = [1] * len(kernel)
    return [
        right.t().reshape(inner, inside, *ones),
        core.reshape(outer, inner, *kernel),
        left.reshape(out, outer, *ones),
    ]


def tucker_numbers(shape: Sequence[int], *, inner: int, outer: int) -> int:
    """Numbers that the three factors hold."""
    out, inside, *kernel = shape
    return inner * inside + outer * inner * math.prod(kernel) + out * outer


def _tucker_ranks(flat: Tensor, numbers: float) -> tuple[int, int]:
    """(r, s) with the least energy left out among those that fit; at least (1, 1)."""
    out, inside, taps = flat.shape
    tails = [_tails(_gram(flat, axis)) for axis in (0, 1)]
    best, least = (1, 1), math.inf
    for inner in range(1, inside + 1):
        outer = min(out, int((numbers - inner * inside) // (inner * taps + out)))
        if outer < 1:
            break
        left = tails[0][outer] + tails[1][inner]
        if left < least:
            best, least = (inner, outer), left
    return best


def _gram(flat: Tensor, axis: int) -> Tensor:
    unfolded = flat.movedim(axis, 0).reshape(flat.shape[axis], -1).double()
    return unfolded @ unfolded.t()


def _leading(gram: Tensor, count: int) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
    return vectors.flip(1)[:, :count].float()


def _tails(gram: Tensor) -> list[float]:
    """Energy outside the first 0, 1, ... directions."""
    values = torch.linalg.eigvalsh(gram).clamp_min(0)
    return [*values.cumsum(0).flip(0).tolist(), 0.0]


def canonical(weight: Tensor, *, rank: int) -> list[Tensor]:
    """(r, in, 1, 1), depthwise along each axis of the kernel, (out, r, 1, 1): CP by least squares.

    Alternating least squares (Carroll and Chang 1970); for convolutions Lebedev et al. 2015, arXiv
    1412.6553. Axes of length one have no factor.

    Args:
        weight: (out, in, *kernel).
        rank: How many products, >= 1.
    """
    out, inside, *kernel = weight.shape
    sizes = [out, inside, *(size for size in kernel if size > 1)]
    tensor = weight.reshape(sizes).double()
    generator = torch.Generator().manual_seed(rank)
    sides = [torch.randn(n, rank, generator=generator, dtype=torch.float64) for n in sizes]
    for _ in range(CP_ROUNDS):
        for axis in range(len(sides)):
            sides[axis] = _fitted_side(tensor, sides, axis)
    norms = torch.stack([side.norm(dim=0).clamp_min(1e-30) for side in sides])
    level = norms.log().mean(0).exp()
    left, right, *taps = [
        (side / norm * level).t().float() for side, norm in zip(sides, norms, strict=True)
    ]
    ones = [1] * len(kernel)
    factors = [right.reshape(rank, inside, *ones)]
    for axis in (axis for axis, size in enumerate(kernel) if size > 1):
        shape = [*ones[:axis], kernel[axis], *ones[axis + 1 :]]
        factors.append(taps.pop(0).reshape(rank, 1, *shape))
    return [*factors, left.t().reshape(out, rank, *ones)]


def _fitted_side(tensor: Tensor, sides: Sequence[Tensor], axis: int) -> Tensor:
    """The side of one axis that is nearest, the others held, (size, rank)."""
    others = [(place, side) for place, side in enumerate(sides) if place != axis]
    seen, letters = tensor, "abcde"[: tensor.dim()]
    equation = ",".join(f"{letters[place]}r" for place, _ in others)
    seen = torch.einsum(
        f"{letters},{equation}->{letters[axis]}r", tensor, *(side for _, side in others)
    )
    gram = torch.ones(sides[0].shape[1], sides[0].shape[1], dtype=torch.float64)
    for _, side in others:
        gram = gram * (side.t() @ side)
    diagonal = gram.diagonal()
    diagonal += RIDGE * diagonal.mean().clamp_min(1e-30)
    solved: Tensor = torch.linalg.solve(gram, seen.t())
    return solved.t()


def spatial(weight: Tensor, *, rank: int) -> list[Tensor]:
    """(r, in, high, 1), (out, r, 1, wide): down first, then across.

    Jaderberg et al. 2014, arXiv 1405.3866; the singular value decomposition of
    (out * wide, in * high).

    Args:
        weight: (out, in, high, wide).
        rank: How many products, >= 1.
    """
    out, inside, high, wide = weight.shape
    matrix = weight.permute(0, 3, 1, 2).reshape(out * wide, inside * high)
    first, last = best_products(matrix).at(rank)
    return [
        first.reshape(rank, inside, high, 1),
        last.reshape(out, wide, rank).permute(0, 2, 1)[:, :, None].contiguous(),
    ]
