"""The base of every augmentation: a frozen value that changes a batch at random."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict

from lilliput.batches import Inputs
from lilliput.described import described_fields

Form = Literal["images", "audio", "text", "numbers"]


@dataclass(frozen=True)
class Augmented:
    """A batch and what it should be answered with.

    Attributes:
        inputs: A tensor, a tuple or a dict of tensors, batch first.
        targets: Pairs of targets and their weight in the loss; the weights sum to 1. One pair,
            unless examples were mixed.
    """

    inputs: Inputs
    targets: tuple[tuple[Any, float], ...]

    @classmethod
    def plain(cls, inputs: Inputs, targets: Any) -> "Augmented":
        """A batch as it is."""
        return cls(inputs, ((targets, 1.0),))


class Augmentation(BaseModel):
    """Keyword-only, frozen; a misspelt field is an error, and so is a value of another type.

    Attributes:
        name: How users know it.
        form: Of the inputs that it changes; ``numbers`` are floating-point inputs of any shape.
        source: Where it was published.
        summary: What it does, in a line.
        mixes: Examples are mixed, so that the targets become weighted pairs.
        needs: Package that it is built on beside torch; empty: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: ClassVar[str]
    form: ClassVar[Form]
    source: ClassVar[str]
    summary: ClassVar[str]
    mixes: ClassVar[bool] = False
    needs: ClassVar[str] = ""

    @classmethod
    def described(cls) -> dict[str, Any]:
        """What `lilliput augmentations` lists: fields with default, range, and unit."""
        return {
            "name": cls.name,
            "form": cls.form,
            "summary": cls.summary,
            "source": cls.source,
            "fields": described_fields(cls),
        }

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """A changed batch of the same shapes and types; what is given stays as it is.

        Raises:
            TaskError: The inputs have another form than it takes.
            MissingExtraError: What it is built on is not installed.
        """
        raise NotImplementedError(f"{self.name} does not say what it does")

    def __str__(self) -> str:
        """Its name, with the fields that differ from their defaults: ``crop(padding=2)``."""
        given = self.model_dump(exclude_defaults=True)
        told = ", ".join(f"{field}={value!r}".lower() for field, value in given.items())
        return f"{self.name}({told})" if told else self.name
