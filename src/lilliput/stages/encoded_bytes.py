"""About how many bytes an encoding takes: entropy-coded in the packed file, and as it is run."""

from dataclasses import fields

import torch

from lilliput.coding import estimate_bits
from lilliput.model.encodings import Encoding, LowRank


def encoded_bytes(encoding: Encoding) -> tuple[float, int]:
    """Storage and installed bytes of one site, its integers within about 1 %.

    Args:
        encoding: Of any kind; the factors of a product are added up. Masks take nothing, since
            what they remove is zero in the weight.
    """
    if isinstance(encoding, LowRank):
        parts = [encoded_bytes(factor) for factor in encoding.factors]
        return sum(part[0] for part in parts), sum(part[1] for part in parts)
    storage, installed = 0.0, 0
    for field in fields(encoding):
        value = getattr(encoding, field.name)
        if not isinstance(value, torch.Tensor) or value.dtype == torch.bool:
            continue
        coded = not value.is_floating_point() and value.dim() == 2
        storage += estimate_bits(value.numpy()) / 8 if coded else value.nbytes
        installed += value.nbytes
    return storage, installed
