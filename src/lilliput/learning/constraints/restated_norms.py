"""BatchNorm whose statistics moved, said with the statistics it had: an export knows only those.

``g (x - m) / s + b`` is ``(g S / s) (x - M) / S + b + g (M - m) / s`` for any other mean M and
deviation S.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def restate_norms(model: nn.Module, original: nn.Module) -> None:
    """Gives every BatchNorm its old statistics and the weight and bias that make up for it.

    Args:
        model: Changed in place.
        original: The model whose statistics are wanted; modules have the same names.
    """
    before = dict(original.named_modules())
    for name, norm in model.named_modules():
        old = before.get(name)
        if not isinstance(norm, _BatchNorm) or not isinstance(old, _BatchNorm):
            continue
        if norm.running_mean is None or norm.weight is None or old.running_mean is None:
            continue
        _restate(norm, old)


def can_restate(model: nn.Module) -> bool:
    """Whether every BatchNorm with statistics has a weight and a bias to make up for them."""
    norms = (norm for norm in model.modules() if isinstance(norm, _BatchNorm))
    return all(norm.weight is not None for norm in norms if norm.running_mean is not None)


@torch.no_grad()
def _restate(norm: _BatchNorm, old: _BatchNorm) -> None:
    mean, variance = _statistics(norm)
    wanted_mean, wanted_variance = _statistics(old)
    if torch.equal(mean, wanted_mean) and torch.equal(variance, wanted_variance):
        return
    weight, bias = norm.weight.double(), norm.bias.double()
    deviation = (variance.double() + norm.eps).sqrt()
    moved = bias + weight * (wanted_mean.double() - mean.double()) / deviation
    norm.weight.copy_(weight * (wanted_variance.double() + norm.eps).sqrt() / deviation)
    norm.bias.copy_(moved)
    mean.copy_(wanted_mean)
    variance.copy_(wanted_variance)


def _statistics(norm: _BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a BatchNorm without statistics has nothing to restate")
    return mean, variance
