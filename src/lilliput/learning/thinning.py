"""Weights are removed while the rest learns: which share, when, and which ones.

Which weights go is read off the weights themselves, the smallest first; masks are in the state
dict, so that a run which was killed goes on with the same ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lilliput.batches import Batch
from lilliput.errors import TrainingError
from lilliput.learning.constraints.constraint import Constraint, constrained
from lilliput.learning.lesson import Lesson, Targets
from lilliput.model.encodings import Masked

Schedule = Literal["gradual", "once", "rounds", "rewound"]
SCHEDULES: tuple[Schedule, ...] = ("gradual", "once", "rounds", "rewound")
STAGES = 100  # of a run: masks are made anew at most so often


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Which share of the weights is removed, and when.

    Attributes:
        remove: Share of all weights of linear layers, convolutions and tables that is gone in the
            end, in (0, 1); the smallest of all of them together.
        schedule: ``gradual``: by a cubic law from `begin` to `end` (Zhu and Gupta 2017, arXiv
            1710.01878). ``once``: all of it at `begin`. ``rounds``: in steps of equal ratio between
            `begin` and `end` (iterative pruning: Han et al. 2015, arXiv 1506.02626). ``rewound``:
            rounds that each train from the beginning, from the weights as they were at first or
            after `early` steps (lottery tickets: Frankle and Carbin 2019, arXiv 1803.03635; with
            late rewinding: Frankle et al. 2020, arXiv 1912.05671).
        begin: Share of the steps after which it starts, in [0, 1).
        end: Share of the steps after which all is removed, in (begin, 1].
        rounds: Of ``rounds`` and ``rewound``, at least 1.
        early: Of ``rewound``: steps of a first training whose weights each round begins with.

    Raises:
        TrainingError: A value is out of range, or there is no such schedule.
    """

    remove: float = 0.9
    schedule: Schedule = "gradual"
    begin: float = 0.0
    end: float = 0.5
    rounds: int = 5
    early: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise TrainingError(
                f"there is no schedule {self.schedule!r}", f"one of {', '.join(SCHEDULES)}"
            )
        ranges = {
            "remove": (0 < self.remove < 1, "(0, 1)"),
            "begin": (0 <= self.begin < 1, "[0, 1)"),
            "end": (self.begin < self.end <= 1, "(begin, 1]"),
            "rounds": (self.rounds >= 1, "[1, inf)"),
            "early": (self.early >= 0, "[0, inf)"),
        }
        for name, (fine, told) in ranges.items():
            if not fine:
                raise TrainingError(
                    f"{name} = {getattr(self, name)} is out of range", f"allowed is {told}"
                )

    def removed(self, share: float) -> float:
        """Which share of the weights is gone at a share of the steps, both in [0, 1]."""
        gone = (share - self.begin) / (self.end - self.begin)
        if gone < 0:
            return 0.0
        if self.schedule == "once" or gone >= 1:
            return self.remove
        if self.schedule == "gradual":
            return float(self.remove * (1 - (1 - gone) ** 3))
        return self.after_round(int(gone * self.rounds) + 1)

    def after_round(self, number: int) -> float:
        """Which share is gone after so many rounds: each leaves the same share of what it found."""
        return float(1 - (1 - self.remove) ** (number / self.rounds))


class Thinning(Constraint):
    """A weight of which more and more is removed.

    Args:
        weight: As it begins.
        mask: True where it stays.
    """

    mask: Tensor
    gone: Tensor

    def __init__(self, weight: Tensor, mask: Tensor) -> None:
        super().__init__()
        self._began = weight.detach()
        self.register_buffer("mask", mask.clone())
        self.register_buffer("gone", torch.zeros((), dtype=torch.float64))

    def start(self) -> tuple[Tensor, ...]:
        """The weight itself."""
        return (self._began.clone(),)

    def forward(self, *latents: Tensor) -> Tensor:
        """Zero where it was removed."""
        return latents[0] * self.mask

    def encoding(self, *latents: Tensor) -> Masked:
        """The weight with its mask."""
        return Masked(self.forward(*latents).detach().clone(), self.mask.clone())


class ThinningLesson(Lesson):
    """Another lesson, during which weights are removed.

    Args:
        lesson: What is learned from what.
        pruning: How much, and when.
    """

    use = "pruning"

    def __init__(self, lesson: Lesson, pruning: Pruning) -> None:
        self.lesson, self.pruning, self.labelled = lesson, pruning, lesson.labelled

    def described(self) -> Mapping[str, Any]:
        """The schedule tells one run from another."""
        return {**self.lesson.described(), "pruning": str(self.pruning)}

    def extra(self) -> nn.Module | None:
        """Those of the lesson."""
        return self.lesson.extra()

    def before(self, model: nn.Module, share: float) -> None:
        """Removes what is due by now."""
        self.lesson.before(model, share)
        thin(model, self.pruning.removed(int(share * STAGES) / STAGES))

    def loss(self, model: nn.Module, batch: Batch, *, targets: Targets) -> Tensor:
        """That of the lesson."""
        return self.lesson.loss(model, batch, targets=targets)


@torch.no_grad()
def thin(model: nn.Module, remove: float) -> None:
    """Removes the smallest weights of all that are being thinned, up to a share; none come back."""
    held = [(one, latents[0]) for one, latents in constrained(model).values()]
    thinning = [(one, latent) for one, latent in held if isinstance(one, Thinning)]
    if not thinning or remove <= float(thinning[0][0].gone):
        return
    masks = without_smallest([latent * one.mask for one, latent in thinning], remove)
    for (one, _), mask in zip(thinning, masks, strict=True):
        one.mask.copy_(mask)
        one.gone.fill_(remove)


def without_smallest(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """Masks that leave out the smallest of all weights together, up to a share of them."""
    flat = torch.cat([weight.abs().flatten() for weight in weights])
    stays = torch.ones(len(flat), dtype=torch.bool)
    stays[flat.argsort(stable=True)[: round(share * len(flat))]] = False
    parts = torch.split(stays, [weight.numel() for weight in weights])
    return [part.reshape(weight.shape) for part, weight in zip(parts, weights, strict=True)]
