"""How one learns: the settings of the training loop, as a frozen value."""

import json
import math
import tomllib
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from torch import optim

from lilliput.errors import TrainingError
from lilliput.learning.augmenting.policy import Policy

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bfloat16", "float16"]
Logger = Literal["tensorboard", "mlflow"]

_OTHERS = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # want closures or gradients of their own
OPTIMIZERS = {
    name.lower(): kind
    for name, kind in vars(optim).items()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and name not in _OTHERS
}
LENGTHS = ("epochs", "steps", "minutes")
EPOCHS = 3  # where no length is given
MOST_SEED = 2**32 - 1

# Name of a number -> its range as users read it, whether a value is inside.
_RANGES: dict[str, tuple[str, float, float]] = {
    "epochs": ("(0, inf)", math.ulp(0.0), math.inf),
    "steps": ("[1, inf)", 1, math.inf),
    "minutes": ("(0, inf)", math.ulp(0.0), math.inf),
    "batch_size": ("[1, inf)", 1, math.inf),
    "accumulate": ("[1, inf)", 1, math.inf),
    "rate": ("(0, inf)", math.ulp(0.0), math.inf),
    "momentum": ("[0, 1)", 0, math.nextafter(1, 0)),
    "weight_decay": ("[0, inf)", 0, math.inf),
    "layer_decay": ("(0, 1]", math.ulp(0.0), 1),
    "warmup": ("[0, 1]", 0, 1),
    "clip": ("[0, inf)", 0, math.inf),
    "average": ("[0, 1)", 0, math.nextafter(1, 0)),
    "freeze_norms": ("[0, 1]", 0, 1),
    "every": ("[1, inf)", 1, math.inf),
    "patience": ("[1, inf)", 1, math.inf),
    "seed": (f"[0, {MOST_SEED}]", 0, MOST_SEED),
}
_CHOICES = {
    "schedule": get_args(Schedule),
    "precision": get_args(Precision),
    "optimizer": tuple(sorted(OPTIMIZERS)),
    "device": ("auto", "cpu"),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one learns. At most one of `epochs`, `steps` and `minutes` says how long; 3 epochs.

    Attributes:
        epochs: Passes over the training examples, above 0.
        steps: Updates of the weights.
        minutes: The pace is measured, then the number of steps is fixed, so that a replay with
            those steps gives the same weights.
        batch_size: Examples that go through the model together.
        accumulate: Batches whose gradients make up one step.
        optimizer: One of torch's, in small letters.
        rate: Learning rate at its highest, per step.
        momentum: Of sgd and rmsprop, [0, 1).
        weight_decay: Of weights with two axes and more; biases and norms have none.
        layer_decay: What the rate of a layer is multiplied with per layer behind it, (0, 1]
            (layer-wise rates: Howard and Ruder 2018, arXiv 1801.06146).
        schedule: How the rate falls to zero: ``cosine`` (arXiv 1608.03983), ``linear``, or not.
        warmup: Share of the steps over which the rate rises, linearly from zero.
        clip: Largest norm of the gradient; 0 for any (Pascanu et al. 2013, arXiv 1211.5063).
        average: Decay of the weights' exponential average, which then is what is evaluated and
            kept, [0, 1); 0 for none.
        freeze_norms: Share of the steps after which BatchNorm's statistics stand still; 1 for
            never, 0 from the beginning.
        precision: Of the arithmetic in the forward pass (mixed precision); weights stay float32.
        every: Steps between two evaluations, each with a checkpoint; by default a tenth of all.
        patience: Evaluations without a better score after which it stops; None for never.
        seed: Of the order of examples, dropout; same seed, same weights.
        device: ``cpu``, or ``auto`` for what accelerate finds.
        augmentation: What batches go through before they are learned from: the text of a
            `Policy`, such as ``crop, rotate(degrees=10), mixup``.
        loggers: Who else is told of every evaluation.

    Raises:
        TrainingError: A value is out of range, unknown or of the wrong kind, or two lengths are
            given.
        PlanError: The augmentation is no policy.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "adamw"
    rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    average: float = 0.0
    freeze_norms: float = 1.0
    precision: Precision = "float32"
    every: int | None = None
    patience: int | None = None
    seed: int = 0
    device: Literal["cpu", "auto"] = "cpu"
    augmentation: str = "none"
    loggers: tuple[Logger, ...] = ()

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in _RANGES and value is not None:
                _check_number(name, value)
            if name in _CHOICES:
                _check_choice(name, value)
        Policy.parse(self.augmentation)
        for logger in self.loggers:
            if logger not in get_args(Logger):
                raise TrainingError(
                    f"there is no logger {logger!r}", f"one of {', '.join(get_args(Logger))}"
                )
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) > 1:
            raise TrainingError(f"{' and '.join(given)} both say how long", "give one of them")

    @classmethod
    def read(cls, path: Path) -> "Training":
        """Settings from a TOML file, as `written` gives them.

        Raises:
            TrainingError: It cannot be read, or has unknown fields.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path} holds no settings: {error}") from error
        known = [field.name for field in fields(cls)]
        for name in found:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                near = f"the nearest is {close[0]}" if close else f"one of {', '.join(known)}"
                raise TrainingError(f"{path}: there is no setting {name!r}", near)
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
        }
        return cls(**given)

    def written(self) -> str:
        """The settings that differ from their defaults, as TOML."""
        lines = []
        for name, value in self.settings.items():
            given = list(value) if isinstance(value, tuple) else value
            lines.append(f"{name} = {json.dumps(given)}\n")
        return "".join(lines)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}

    def total(self, per_epoch: int) -> int | None:
        """Steps in all; None where only the pace will tell."""
        if self.minutes is not None:
            return None
        if self.steps is not None:
            return self.steps
        return max(1, round((self.epochs or EPOCHS) * per_epoch))

    def rate_at(self, step: int, total: int) -> float:
        """The rate of one step, 0 <= step < total."""
        rising = self.warmup * total
        if step < rising:
            return self.rate * (step + 1) / (math.floor(rising) + 1)
        gone = (step - rising) / max(1.0, total - rising)
        if self.schedule == "linear":
            return self.rate * (1 - gone)
        if self.schedule == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * gone))
        return self.rate


WHOLE = ("steps", "batch_size", "accumulate", "every", "patience", "seed")


def _check_number(name: str, value: Any) -> None:
    told, least, most = _RANGES[name]
    number = isinstance(value, int) or (isinstance(value, float) and name not in WHOLE)
    if isinstance(value, bool) or not number:
        kind = "a whole number" if name in WHOLE else "a number"
        raise TrainingError(f"{name} must be {kind}, got {value!r}")
    if not least <= value <= most or not math.isfinite(value):
        near = f", the nearest is {min(max(value, least), most):g}" if told[0] == "[" else ""
        raise TrainingError(f"{name} = {value:g} is out of range", f"allowed is {told}{near}")


def _check_choice(name: str, value: Any) -> None:
    known = _CHOICES[name]
    if value not in known:
        close = get_close_matches(str(value).lower(), known, n=1)
        nearest = f", the nearest is {close[0]}" if close else ""
        raise TrainingError(f"there is no {name} {value!r}", f"one of {', '.join(known)}{nearest}")
