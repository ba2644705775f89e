"""Hashes of a model: what it is (names and shapes) and what it holds (values)."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def model_hash(model: nn.Module) -> str:
    """SHA-256 over names and shapes of the parameters: equal for checkpoints of one architecture."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
    return digest.hexdigest()


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for named in (model.named_parameters(), model.named_buffers()):
        _update(digest, named)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", named: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
