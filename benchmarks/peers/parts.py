"""A whole model as named arrays, each BatchNorm as one scale and one shift, and back.

With BatchNorm kept apart from its convolution the weights of all channels have similar spread,
which suits every peer; and two vectors are stored instead of four.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Norm = nn.modules.batchnorm._BatchNorm


def fp32_bytes(model: nn.Module) -> int:
    """Four bytes for each of the model's parameters: what shares of a whole model refer to."""
    return 4 * sum(parameter.numel() for parameter in model.parameters())


def split(model: nn.Module) -> dict[str, Tensor]:
    """All that a file must hold: parameters; ``NAME.scale`` and ``NAME.shift`` per BatchNorm."""
    norms = _norms(model)
    inside = tuple(f"{name}." for name in norms)
    arrays = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if not name.startswith(inside or ("\0",))
    }
    for name, norm in norms.items():
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        arrays[f"{name}.scale"] = scale
        arrays[f"{name}.shift"] = norm.bias.detach() - norm.running_mean * scale
    return arrays


def join(model: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse: values for the model's parameters and buffers, to call it with."""
    weights = dict(arrays)
    for name, norm in _norms(model).items():
        scale = weights.pop(f"{name}.scale")
        weights[f"{name}.weight"] = scale
        weights[f"{name}.bias"] = weights.pop(f"{name}.shift")
        weights[f"{name}.running_mean"] = torch.zeros_like(scale)
        weights[f"{name}.running_var"] = torch.full_like(scale, 1 - norm.eps)
    return weights


def _norms(model: nn.Module) -> dict[str, Norm]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Norm)}
