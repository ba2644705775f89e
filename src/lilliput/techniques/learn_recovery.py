"""What was lost is learned back: the compressed model is trained under its constraints."""

from typing import ClassVar, Literal

from pydantic import Field

from lilliput.techniques.fields import Family, Fields

Strength = Literal["light", "full"]


class LearnRecovery(Fields):
    """The last step of a plan: trains the compressed model; what it became stays in force.

    Masks stay, codes stay on their grids, shared values are shared, ranks are kept. It names no
    sites: all of them learn, and biases and norms with them.

    Attributes:
        strength: ``light``: only scales (steps, shared values), biases and norms, label-free, on
            the calibration examples. ``full``: all weights, on the task's training examples.
        steps: Updates of the weights.
        rate: Learning rate at its highest; it falls along a cosine.
        batch_size: Examples of one update.
        optimizer: One of torch's, in small letters: ``adamw``, ``sgd``.
        weight_decay: Of weights with two axes and more, in [0, 1].
        labels: Share of the task's own loss, in [0, 1]; the rest is the divergence from the
            original's output. Only in ``full``, and only where training examples have targets.
            Above a half the score on search examples says which moment was best, else the
            divergence.
        augmentation: Policy that batches go through first (`lilliput.learning.Policy`), e.g.
            ``flip, crop(padding=2)``: more inputs from few; ``none`` changes nothing.
        bits: Per weight on a grid, after entropy coding, to which codes are led while they learn
            (only in ``full``; see `lilliput.learning.squeezing`); 0: codes cost nothing.
    """

    name: ClassVar[str] = "learn_recovery"
    family: ClassVar[Family] = "learn"
    source: ClassVar[str] = (
        "Esser et al. 2020, arXiv 1902.08153; Han et al. 2016, arXiv 1510.00149; "
        "Hinton et al. 2015, arXiv 1503.02531; Oktay et al. 2020, arXiv 1906.06624"
    )
    summary: ClassVar[str] = "trains the compressed model under its constraints"

    strength: Strength = "light"
    steps: int = Field(300, ge=1, le=500_000, json_schema_extra={"unit": "updates"})
    rate: float = Field(1e-3, gt=0, le=10, json_schema_extra={"unit": "per update"})
    batch_size: int = Field(64, ge=1, le=65_536, json_schema_extra={"unit": "examples"})
    optimizer: str = "adamw"
    weight_decay: float = Field(0.0, ge=0, le=1, json_schema_extra={"unit": "per rate"})
    labels: float = Field(0.5, ge=0, le=1, json_schema_extra={"unit": "share"})
    augmentation: str = "none"
    bits: float = Field(0.0, ge=0, le=16, json_schema_extra={"unit": "bits per weight"})
