"""Adds words to a model's vocabulary."""

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.rows import larger_vocabulary, vocabulary
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.growing import captured


class GrowVocabulary(Fields):
    """Adds rows to the embedding, and to the output layer, whether tied or not.

    New rows start as the mean of the old ones; scores of old words stay. `where` names the
    embedding; without it, it is the largest one that the model's inputs are looked up in.

    Attributes:
        words: How many to add, at least 1.
    """

    name: ClassVar[str] = "grow_vocabulary"
    family: ClassVar[Family] = "grow"
    source: ClassVar[str] = "Hewitt 2021, Initializing new word embeddings for pretrained models"
    summary: ClassVar[str] = "add words; scores of the old ones stay"

    words: int = Field(8, ge=1, lt=10**6, json_schema_extra={"unit": "words"})

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy with more words and its proof; needs no calibration inputs."""
        shape = captured(model, inputs, batches=batches)
        if len(where) > 1:
            raise ShapeError(f"one vocabulary grows at a time, got {', '.join(where)}")
        table, _ = vocabulary(shape, *where)
        return larger_vocabulary(model, shape, table=table, rows=self.words, inputs=inputs)
