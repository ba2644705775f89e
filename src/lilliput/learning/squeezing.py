"""Codes become cheap to store while they learn: their bits after entropy coding are in the loss.

Entropy-penalized training: Oktay et al. 2020, arXiv 1906.06624; Wiedemann et al. 2019, arXiv
1812.08301. What a code costs is read off the codes as they are, by rows and columns as the
container's coder does, and read anew every few steps; in between, every code feels how many bits
its neighbour towards zero would save. How strongly that counts follows from a target for all codes
together, to which the bits are led.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.batches import Batch
from lilliput.coding import estimate_bits
from lilliput.learning.constraints.constraint import constrained
from lilliput.learning.constraints.on_grids import OnGrid
from lilliput.learning.lesson import Lesson, Targets
from lilliput.learning.watching import Watch

EVERY = 50  # steps between two readings of what codes cost
LED = 0.6  # share of the steps over which the bits are led to their target
BELOW = 0.96  # of the target: where the bits are held afterwards
FIRST_PRESSURE = 0.02  # nats of loss per bit of a weight
MOST_PRESSURE = 5.0  # nats per bit: when the rate is low codes no longer answer it
GAIN = 40.0  # how fast the pressure answers: per share of the run and e-fold of bits
LARGEST = 64  # codes of larger size cost what this one does
SMOOTH = 0.5  # of a count, so that what never occurs has a price

Held = tuple[OnGrid, tuple[Tensor, ...]]


class Squeezing(Lesson):
    """Another lesson, during which codes become cheap to store.

    Args:
        lesson: What is learned from what.
        model: Its weights are held to grids (`Constrained`).
        bits: Per weight on a grid, after entropy coding, in the end; above 0.
    """

    use = "squeezing"

    def __init__(self, lesson: Lesson, model: nn.Module, *, bits: float) -> None:
        self.lesson, self.bits, self.labelled = lesson, bits, lesson.labelled
        self._grids = grids_of(model)
        self._count = sum(one.codes.numel() for one, _ in self._grids)
        self._prices = _Prices(one for one, _ in self._grids)

    def described(self) -> Mapping[str, Any]:
        """The target tells one run from another."""
        return {**self.lesson.described(), "bits": self.bits}

    def extra(self) -> nn.Module:
        """What codes cost, and how much that counts: kept in checkpoints."""
        inner = self.lesson.extra()
        return self._prices if inner is None else nn.ModuleList([inner, self._prices])

    @torch.no_grad()
    def before(self, model: nn.Module, share: float) -> None:
        """Every few steps: what codes cost by now, and how much that is to count."""
        self.lesson.before(model, share)
        prices = self._prices
        if int(prices.calls) % EVERY == 0:
            now = bits_of(self._grids) / self._count
            if not float(prices.began):
                prices.began.fill_(now)
            since = share - float(prices.share)
            error = math.log(now / self._aim(share))
            prices.pressure.mul_(math.exp(max(-1.0, min(1.0, GAIN * since * error))))
            prices.pressure.clamp_(max=MOST_PRESSURE)
            prices.share.fill_(share)
            prices.read(self._grids)
        prices.calls.add_(1)

    def _aim(self, share: float) -> float:
        """Bits per weight at a share of the run: from what they were, by equal ratios."""
        began, end = float(self._prices.began), BELOW * self.bits
        return float(began * (end / began) ** min(1.0, share / LED)) if began > end else end

    def loss(self, model: nn.Module, batch: Batch, *, targets: Targets) -> Tensor:
        """That of the lesson, and the price of the codes."""
        loss = self.lesson.loss(model, batch, targets=targets)
        price = torch.stack(
            [
                self._prices.saved(place, one.relaxed(*latents))
                for place, (one, latents) in enumerate(self._grids)
            ]
        ).sum()
        return loss + self._prices.pressure * price / self._count


class _Prices(nn.Module):
    """What codes of each grid cost in bits, and how much a bit counts.

    A code of row r and column c is not zero with a probability of their shares of such codes; a
    code that is not zero has a price by its size.
    """

    calls: Tensor
    share: Tensor
    began: Tensor
    pressure: Tensor

    def __init__(self, grids: Iterable[OnGrid]) -> None:
        super().__init__()
        for name, first in (("share", 0.0), ("began", 0.0), ("pressure", FIRST_PRESSURE)):
            self.register_buffer(name, torch.tensor(first, dtype=torch.float64))
        self.register_buffer("calls", torch.tensor(0))
        for place, grid in enumerate(grids):
            self.register_buffer(f"life{place}", torch.zeros(grid.codes.shape))
            self.register_buffer(f"sizes{place}", torch.zeros(LARGEST + 2))

    def read(self, grids: Iterable[Held]) -> None:
        """What the codes as they are make every code cost."""
        for place, (grid, latents) in enumerate(grids):
            sizes = grid.rounded(*latents).abs()
            alive = (sizes > 0).double()
            rows, columns = alive.mean(1, keepdim=True), alive.mean(0, keepdim=True)
            whole = alive.mean().clamp_min(1e-12)
            least = SMOOTH / max(alive.shape)
            chance = (rows * columns / whole).clamp(least, 1 - least)
            life = (1 - chance).log2() - chance.log2()  # bits from zero to the first size
            self.get_buffer(f"life{place}").copy_(life)
            counts = torch.bincount(
                sizes.clamp(max=LARGEST).long().flatten(), minlength=LARGEST + 2
            ).double()[1:]
            share = (counts + SMOOTH * 2.0 ** -torch.arange(LARGEST + 1)) / (counts.sum() + 1)
            price = 1 - share.log2()  # the sign is a bit
            self.get_buffer(f"sizes{place}")[1:].copy_(price.cummax(0).values)

    def saved(self, place: int, relaxed: Tensor) -> Tensor:
        """A scalar whose gradient for each code is what it costs more than its neighbour."""
        codes, prices = relaxed.detach(), self.get_buffer(f"sizes{place}")
        size = codes.abs()
        low = size.clamp(max=LARGEST - 1).long()
        step = (prices[1:] - prices[:-1])[low]
        slope = torch.where(size < 1, self.get_buffer(f"life{place}") + prices[1], step)
        return (relaxed * (codes.sign() * slope.clamp_min(0.0))).sum()


class WhenSmall(Watch):
    """Scores only what is as small as it shall be: earlier moments are no candidates.

    Args:
        watch: Whose scores count.
        bits: Per weight on a grid, at most.
    """

    def __init__(self, watch: Watch, bits: float) -> None:
        self.watch, self.bits = watch, bits

    def better(self, score: float, than: float | None) -> bool:
        """As the watch has it."""
        return self.watch.better(score, than)

    def __call__(self, model: nn.Module) -> float:
        """The watch's score, or no number."""
        grids = grids_of(model)
        count = sum(one.codes.numel() for one, _ in grids)
        return self.watch(model) if bits_of(grids) <= self.bits * count else float("nan")


def grids_of(model: nn.Module) -> list[Held]:
    """The grids whose codes learn."""
    return [
        (one, latents)
        for one, latents in constrained(model).values()
        if isinstance(one, OnGrid) and one.free
    ]


@torch.no_grad()
def bits_of(grids: Iterable[Held]) -> float:
    """Bits of all codes after entropy coding, estimated."""
    return sum(
        estimate_bits(one.rounded(*latents).to(torch.int32).numpy()) for one, latents in grids
    )
