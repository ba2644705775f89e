"""Peers that use calibration data: error-feedback rounding and a compensated codebook.

Error feedback: Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ", arXiv 2210.17323: columns are
rounded one after another and each column's error is compensated in the columns still to come. Both
are written plainly here, with the settings that make them strong: columns in order of falling
second moment, groups fixed beforehand, ranges clipped where that lowers the error.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.models import Inputs, Subject
from benchmarks.peers.files import Grouped, Shared
from benchmarks.peers.rounding import GROUP, affine

DAMPING = 0.01
BLOCK = 128
CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)

Rounder = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def second_moments(subject: Subject) -> dict[str, Tensor]:
    """E[x xᵀ] of the inputs x of each linear site over the real positions, (in, in) float64."""
    modules = dict(subject.model.named_modules())
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    current: list[Inputs] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0][current[0]["attention_mask"].bool()]  # (real positions, in)
            sums[name] = sums.get(name, 0) + (rows.t() @ rows).double()
            counts[name] = counts.get(name, 0) + len(rows)

        return add

    handles = [
        modules[name.removesuffix(".weight")].register_forward_pre_hook(hook(name))
        for name in subject.sites
    ]
    with torch.inference_mode():
        for batch in subject.calibration:
            current[:] = [batch]
            subject.model(**batch)
    for handle in handles:
        handle.remove()
    return {name: total / counts[name] for name, total in sums.items()}


def error_feedback(weight: Tensor, moments: Tensor, bits: int) -> Grouped:
    """GPTQ on groups of 64: weight (out, in), moments (in, in)."""
    rows, columns = weight.shape
    groups = weight.reshape(-1, GROUP)
    scale, zero = _clipped(groups, bits)
    scales, zeros = scale.reshape(rows, -1), zero.reshape(rows, -1)  # (out, in / 64)
    top = 2**bits - 1

    def round_column(values: Tensor, column: int) -> tuple[Tensor, Tensor]:
        s, z = scales[:, column // GROUP], zeros[:, column // GROUP]
        codes = (values / s + z).round().clamp(0, top)
        return codes, (codes - z) * s

    codes = feed_back(weight, moments, round_column)
    return Grouped(
        codes=codes.reshape(-1).to(torch.uint8),
        scales=scale.half(),
        zeros=zero.to(torch.uint8),
        bits=bits,
        shape=(rows, columns),
    )


def compensated_codebook(weight: Tensor, moments: Tensor, bits: int) -> Shared:
    """2 ** bits shared values (weighted k-means on rows scaled to one spread), with feedback."""
    scale = weight.square().mean(1).sqrt().clamp(min=1e-7).half().float()  # (out,)
    relative = weight / scale[:, None]
    importance = moments.diagonal().float()[None, :] * scale.square()[:, None]
    values = weighted_centres(relative.reshape(-1), importance.reshape(-1), 2**bits).half().float()
    borders = (values[1:] + values[:-1]) / 2

    def round_column(column_values: Tensor, _: int) -> tuple[Tensor, Tensor]:
        codes = torch.bucketize((column_values / scale).contiguous(), borders)
        return codes.float(), values[codes] * scale

    codes = feed_back(weight, moments, round_column)
    return Shared(
        codes=codes.reshape(-1).to(torch.uint8),
        values=values.half(),
        scales=scale.half(),
        bits=bits,
        shape=tuple(weight.shape),
    )


def feed_back(weight: Tensor, moments: Tensor, round_column: Rounder) -> Tensor:
    """Round column by column and compensate each error in the columns still to come.

    Args:
        weight: (out, in).
        moments: (in, in) second moments of the inputs.
        round_column: (values (out,), column number) -> (codes (out,), what they decode to (out,)).

    Returns:
        Codes, (out, in) float.
    """
    order = moments.diagonal().argsort(descending=True)
    damped = moments[order][:, order].clone()
    damped.diagonal().add_(DAMPING * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor = torch.linalg.cholesky(inverse, upper=True).float()  # (in, in)
    remaining = weight[:, order].clone()
    codes = torch.empty_like(remaining)
    for start in range(0, len(order), BLOCK):
        end = min(start + BLOCK, len(order))
        errors = torch.empty(len(weight), end - start)
        for column in range(start, end):
            rounded = round_column(remaining[:, column], int(order[column]))
            codes[:, column] = rounded[0]
            error = (remaining[:, column] - rounded[1]) / factor[column, column]
            remaining[:, column:end] -= error[:, None] * factor[column, column:end]
            errors[:, column - start] = error
        remaining[:, end:] -= errors @ factor[start:end, end:]
    return codes[:, order.argsort()]


def weighted_centres(values: Tensor, weights: Tensor, count: int, rounds: int = 20) -> Tensor:
    """Lloyd's algorithm in one dimension: `count` sorted centres of (n,) values, weighted (n,)."""
    ordered = values.sort().values
    quantiles = ordered[torch.linspace(0, len(ordered) - 1, 2 * count + 1)[1::2].long()]
    low, high = ordered[len(ordered) // 1000], ordered[-1 - len(ordered) // 1000]
    centres = (quantiles + torch.linspace(float(low), float(high), count)) / 2
    for _ in range(rounds):
        nearest = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        mass = torch.zeros(count).index_add_(0, nearest, weights)
        total = torch.zeros(count).index_add_(0, nearest, weights * values)
        centres = torch.where(mass > 0, total / mass.clamp(min=1e-20), centres).sort().values
    return centres


def _clipped(values: Tensor, bits: int, power: float = 2.4) -> tuple[Tensor, Tensor]:
    """Scale and zero of each row with the clipping that rounds it best (GPTQ's own search)."""
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for clip in CLIPS:
        scale, zero = affine(values, bits, clip=clip)
        codes = (values / scale[:, None] + zero[:, None]).round().clamp(0, 2**bits - 1)
        error = ((codes - zero[:, None]) * scale[:, None] - values).abs().pow(power).sum(1)
        if best is None:
            best = error, scale, zero
            continue
        better = error < best[0]
        best = tuple(
            torch.where(better, new, old)
            for new, old in zip((error, scale, zero), best, strict=True)
        )
    assert best is not None
    return best[1], best[2]


def all_sites(subject: Subject, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The sites' weights by name."""
    parameters = dict(subject.model.named_parameters())
    return {name: parameters[name].detach() for name in names or subject.sites}
