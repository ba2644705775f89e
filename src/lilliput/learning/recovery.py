"""How a compressed model is to learn back what was lost: the value that users write."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from lilliput.errors import TrainingError
from lilliput.learning.training import LENGTHS, Training
from lilliput.records import Step
from lilliput.techniques import LearnRecovery, from_step
from lilliput.techniques.learn_recovery import Strength

FREEZE_NORMS = 0.5  # share of the steps after which BatchNorm's statistics stand still, in full
TUNED = ("rate", "batch_size", "optimizer", "weight_decay", "augmentation")  # of another run
_OUTSIDE = re.compile(r",(?![^(]*\))")  # commas that are not within brackets


@dataclass(frozen=True, kw_only=True)
class Recover:
    """Train the compressed model under its constraints; see `LearnRecovery` for what that means.

    Args:
        minutes: The pace is measured, then the number of steps is fixed: the plan names it, so
            that a replay gives the same bytes. At most one of minutes, epochs and steps.
        epochs: Passes over the examples that it learns from.
        steps: Updates of the weights.
        strength: ``light`` or ``full``.
        rate: Learning rate; None for the technique's own.
        batch_size: Examples of one update, likewise.
        optimizer: Of torch's, likewise.
        weight_decay: Of weights with two axes and more, likewise.
        labels: Share of the task's loss in ``full``, likewise.
        augmentation: Policy that batches go through first, likewise; in the short form its commas
            are semicolons.
        squeeze: Lead the codes to what the limit on storage leaves them, in ``full``: the plan
            begins with a larger file.
        bits: The same for a number of bits per weight, in a plan: see `LearnRecovery`.

    Raises:
        PlanError: A value is out of range or of the wrong kind.
        TrainingError: Two lengths are given, or one is out of range.
    """

    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    strength: Strength = "light"
    rate: float | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    labels: float | None = None
    augmentation: str | None = None
    squeeze: bool = False
    bits: float | None = None

    def __post_init__(self) -> None:
        Training(**self._lengths)
        technique = self.technique
        Training(augmentation=technique.augmentation, optimizer=technique.optimizer)
        if (technique.bits or self.squeeze) and self.strength != "full":
            raise TrainingError("codes are squeezed in full recovery only", "give strength=full")

    @classmethod
    def like(cls, training: Training, **given: Any) -> Self:
        """How another run learned, such as a study's best trial: `TUNED`, but for what is given."""
        return cls(**({name: getattr(training, name) for name in TUNED} | given))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The value from its short form: ``minutes=10,strength=full``.

        ``settings=tuned/training.toml`` stands for what `like` takes from that file.

        Raises:
            TrainingError: It has another form, or a name that there is not, or the file is none.
        """
        found: dict[str, Any] = {}
        known = [*(field.name for field in fields(cls)), "settings"]
        for part in _OUTSIDE.split(text):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or name not in known:
                raise TrainingError(
                    f"recover: {part.strip()!r} is not understood",
                    f"e.g. minutes=10,strength=light; known are {', '.join(known)}",
                )
            found[name] = _value(value)
        if "augmentation" in found:
            found["augmentation"] = found["augmentation"].replace(";", ", ")
        settings = found.pop("settings", None)
        return (
            cls(**found)
            if settings is None
            else cls.like(Training.read(Path(str(settings))), **found)
        )

    def __str__(self) -> str:
        """The short form, which `parse` reads."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        told = {n: str(v).lower() for n, v in given.items() if v is not None and v is not False}
        if "augmentation" in told:
            told["augmentation"] = told["augmentation"].replace(", ", ";")
        return ",".join(f"{name}={value}" for name, value in told.items())

    @classmethod
    def of(cls, technique: LearnRecovery) -> Self:
        """What a plan's last step asks for."""
        return cls(**technique.model_dump())

    @property
    def technique(self) -> LearnRecovery:
        """The step of a plan; its number of steps counts only where that is known already."""
        names = LearnRecovery.model_fields
        given = {name: v for name in names if (v := getattr(self, name)) is not None}
        found: Any = from_step(Step(technique=LearnRecovery.name, where=(), settings=given))
        technique: LearnRecovery = found
        return technique

    def training(self, *, seed: int, still_norms: bool) -> Training:
        """How the loop is to train.

        Args:
            seed: Of the order of examples, and dropout.
            still_norms: BatchNorm's statistics stand still from the beginning.
        """
        technique = self.technique
        lengths = self._lengths or {"steps": technique.steps}
        still = still_norms or technique.strength == "light"
        return Training(
            **lengths,
            rate=technique.rate,
            batch_size=technique.batch_size,
            optimizer=technique.optimizer,
            weight_decay=technique.weight_decay,
            augmentation=technique.augmentation,
            freeze_norms=0.0 if still else FREEZE_NORMS,
            seed=seed,
        )

    @property
    def _lengths(self) -> dict[str, Any]:
        return {name: v for name in LENGTHS if (v := getattr(self, name)) is not None}


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
