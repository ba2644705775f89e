"""About how many bytes an encoding takes: entropy-coded in the packed file, and as it is run."""

from collections.abc import Iterator
from dataclasses import fields

import torch

from lilliput.coding import estimate_bits
from lilliput.model.encodings import Encoding, parts_of


def encoded_bytes(encoding: Encoding) -> tuple[float, int]:
    """Storage and installed bytes of one site, its integers within about 1 %.

    Args:
        encoding: Of any kind; the factors of a product are added up. Masks take nothing, since
            what they remove is zero in the weight.
    """
    storage, installed = 0.0, 0
    for value in _tensors(encoding):
        coded = not value.is_floating_point() and value.dim() == 2
        storage += estimate_bits(value.numpy()) / 8 if coded else value.nbytes
        installed += value.nbytes
    return storage, installed


def _tensors(encoding: Encoding) -> Iterator[torch.Tensor]:
    """What an encoding stores."""
    for part in parts_of(encoding):
        values = (getattr(part, field.name) for field in fields(part))
        yield from (v for v in values if isinstance(v, torch.Tensor) and v.dtype != torch.bool)
