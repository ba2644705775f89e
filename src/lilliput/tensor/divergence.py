"""The common currency: how far the model's output moved, without labels."""

import torch
from torch import Tensor


def divergence(outputs: Tensor, reference: Tensor, *, classes: bool) -> float:
    """Mean divergence of outputs from the original's on the same examples.

    Args:
        outputs: (N, ...) of the changed model.
        reference: (N, ...) of the original.
        classes: The last dimension holds class scores (logits): KL in nats per position.
            Otherwise the squared error relative to the reference's squared size.

    Returns:
        >= 0; infinite where an output is NaN or infinite.
    """
    if not torch.isfinite(outputs).all():
        return float("inf")
    if classes:
        wanted = torch.log_softmax(reference.to(torch.float64), -1)
        got = torch.log_softmax(outputs.to(torch.float64), -1)
        return max(0.0, float((wanted.exp() * (wanted - got)).sum(-1).mean()))
    error = (outputs - reference).to(torch.float64).square().sum()
    size = reference.to(torch.float64).square().sum()
    return float(error / size) if size > 0 else float(error)
