"""Weights from a file into the user's own class. Nothing is unpickled."""

import difflib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lilliput.errors import CheckpointError, InputError
from lilliput.sources.inspecting import CONVERT, inspect_file

Module = TypeVar("Module", bound=nn.Module)

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights", "params")


def load_weights(model: Module, path: str | Path) -> Module:
    """Copy the weights of a file into a model and return the model.

    Args:
        model: An instance of the user's class; its dtypes are kept.
        path: A state dict (``.pt``, ``.pth``, ``.bin``, read with ``weights_only``) or a
            ``.safetensors`` file. State dicts inside a training checkpoint and names behind a
            prefix such as ``module.`` are found.

    Raises:
        CheckpointError: Not a file of weights, or weights that do not fit the model: the message
            names them and the nearest names. The model is not changed then.
    """
    file = Path(path)
    held = _fit_prefix(read_weights(file), list(model.state_dict()))
    _check_fit(model, held, file)
    model.load_state_dict(held, strict=False)
    return model


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file of weights by name, on the CPU.

    Raises:
        CheckpointError: Not a file of weights, damaged, or a pickled module.
    """
    file = Path(path)
    try:
        found = inspect_file(file)
    except InputError as error:
        raise CheckpointError(error.message, error.hint) from error
    if found.kind == "safetensors":
        try:
            return dict(load_file(file))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is damaged: {error}") from error
    if found.kind == "pickled module":
        raise CheckpointError(
            f"{file} is a pickled module, not a state dict: {found.details}",
            CONVERT.format(path=file),
        )
    if found.kind != "state dict":
        raise CheckpointError(
            f"{file} holds no weights: it is {_article(found.kind)} ({found.details})",
            "weights are a state dict (.pt, .pth, .bin) or .safetensors",
        )
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0][:200]
        raise CheckpointError(
            f"{file} cannot be read as weights: {reason}", CONVERT.format(path=file)
        ) from error
    return _unwrap(loaded, file)


def _unwrap(loaded: Any, file: Path) -> dict[str, Tensor]:
    """The state dict itself, or the one inside a training checkpoint."""
    if isinstance(loaded, Mapping):
        if loaded and all(isinstance(value, Tensor) for value in loaded.values()):
            return dict(loaded)
        for key in (*WRAPPERS, *loaded):
            inner = loaded.get(key)
            if isinstance(inner, Mapping) and _tensors(inner):
                return _tensors(inner)
        if _tensors(loaded):
            return _tensors(loaded)
    raise CheckpointError(
        f"{file} holds no state dict but {type(loaded).__name__}",
        "torch.save(model.state_dict(), path)",
    )


def _tensors(values: Mapping[Any, Any]) -> dict[str, Tensor]:
    named = {key: value for key, value in values.items() if isinstance(value, Tensor)}
    return named if all(isinstance(key, str) for key in named) else {}


def _fit_prefix(held: dict[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    """Names with a prefix removed or added, whichever fits the model's names best."""

    def matches(names: Iterable[str]) -> int:
        return len(set(names) & set(wanted))

    best = held
    for prefix in _prefixes(held):
        cut = {name.removeprefix(prefix): value for name, value in held.items()}
        if all(name.startswith(prefix) for name in held) and matches(cut) > matches(best):
            best = cut
    for prefix in _prefixes(wanted):
        longer = {prefix + name: value for name, value in held.items()}
        if matches(longer) > matches(best):
            best = longer
    return best


def _prefixes(names: Iterable[str]) -> list[str]:
    """``a.``, ``a.b.``: leading parts of the names, shortest first, each once."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for depth in range(1, min(len(parts), 4)):
            found[".".join(parts[:depth]) + "."] = None
    return sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def _check_fit(model: nn.Module, held: dict[str, Tensor], file: Path) -> None:
    state = model.state_dict()
    wrong = [n for n in held if n in state and held[n].shape != state[n].shape]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{file}: {name} has shape {tuple(held[name].shape)}, "
            f"the model's has {tuple(state[name].shape)}{_others(wrong)}",
            "is the model built with the same sizes, e.g. the number of classes?",
        )
    there = {state[name].data_ptr() for name in held if name in state}
    missing = [
        name
        for name, value in state.items()
        if name not in held
        and not name.endswith("num_batches_tracked")
        and not (value.numel() and value.data_ptr() in there)  # tied to one that is there
    ]
    unexpected = [name for name in held if name not in state]
    if missing:
        raise CheckpointError(
            f"{file} lacks {missing[0]}{_others(missing)}", _nearest(missing[0], unexpected)
        )
    if unexpected:
        raise CheckpointError(
            f"{file} holds {unexpected[0]}{_others(unexpected)}, which the model does not have",
            _nearest(unexpected[0], list(state)),
        )


def _others(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _nearest(name: str, among: list[str]) -> str:
    close = difflib.get_close_matches(name, among, n=3, cutoff=0.4)
    return f"nearest names: {', '.join(close)}" if close else "is it the same class?"


def _article(kind: str) -> str:
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind} file"
