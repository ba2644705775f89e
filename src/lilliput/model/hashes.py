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


def values_hash(model: nn.Module) -> str:
    """SHA-256 over names, types and values of the parameters."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        _add(digest, name, parameter)
    return digest.hexdigest()


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, types and values of parameters and buffers, and training flags."""
    digest = hashlib.sha256()
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            _add(digest, name, tensor)
    digest.update(bytes(module.training for module in model.modules()))
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", name: str, tensor: torch.Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().data)
