"""What the files of a row are held against, and the record that this gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks.models import Subject, damage, outputs
from benchmarks.record import Record, versions

Filed = tuple[int, Mapping[str, Tensor]]  # bytes of a file, and the weights it decodes to


@dataclass(frozen=True)
class Yardstick:
    """The original of one row and seed; asks it once.

    Attributes:
        row: Name of the row.
        subject: Model and inputs.
        seed: Drew the inputs.
        whole: Bytes of the original in fp32; by default those of the weights that a file holds.
        reference: The original's outputs on the test inputs, (N, k).
    """

    row: str
    subject: Subject
    seed: int
    whole: int | None = None
    reference: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference", outputs(self.subject.model, self.subject.test))

    def record(
        self, peer: str, setting: str, *, filed: Filed, details: Mapping[str, object] | None = None
    ) -> Record:
        """One file, measured."""
        size, weights = filed
        whole = self.whole or 4 * sum(weight.numel() for weight in weights.values())
        return Record(
            row=self.row,
            subject=self.subject.name,
            peer=peer,
            setting=setting,
            seed=self.seed,
            bytes=size,
            share=size / whole,
            errors=damage(self.subject, weights, self.reference),
            details=dict(details or {}),
            versions=versions(),
        )
