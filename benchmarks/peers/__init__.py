"""The peers: weights in, a real file and the weights it decodes to out."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Compressed:
    """What a peer made of a model.

    Attributes:
        weights: What its file decodes to, by qualified name of the model's parameters and buffers.
        bytes: Size of that file on disk.
        settings: What was chosen, for the record.
    """

    weights: dict[str, Tensor]
    bytes: int
    settings: dict[str, float | int | str]
