"""Hashes of a model: what it is (names and shapes) and what it holds (values)."""

import hashlib

import torch
from torch import nn


def model_hash(model: nn.Module) -> str:
    """SHA-256 over names and shapes of the parameters: the same for every checkpoint of a class."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
    return digest.hexdigest()


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, types and values of parameters and buffers, and training flags."""
    digest = hashlib.sha256()
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    digest.update(bytes(module.training for module in model.modules()))
    return digest.hexdigest()
