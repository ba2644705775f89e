"""Which tensor of a model's output counts."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from lilliput.batches import flatten_tensors
from lilliput.errors import TaskError


def pick_output(raw: Any, key: str | int | None = None) -> Tensor:
    """The output that counts, (N, ...).

    Args:
        raw: What the model returned: a tensor, tuple, dict or Hugging Face output.
        key: A key or a position. None: a tensor itself, ``logits`` of a dict, else the first
            tensor leaf.

    Raises:
        TaskError: There is no such output, or it is not a tensor.
    """
    if key is not None:
        return _select(raw, key)
    if isinstance(raw, Mapping) and isinstance(raw.get("logits"), Tensor):
        return cast(Tensor, raw["logits"])
    found = flatten_tensors(raw)
    if not found:
        raise TaskError(f"the model returned no tensor but {type(raw).__name__}")
    return found[0]


def _select(raw: Any, key: str | int) -> Tensor:
    try:
        chosen = raw if isinstance(raw, Tensor) and key == 0 else raw[key]
    except (KeyError, IndexError, TypeError) as error:
        known = list(raw) if isinstance(raw, Mapping) else type(raw).__name__
        raise TaskError(f"the model has no output {key!r}; it returned {known}") from error
    if not isinstance(chosen, Tensor):
        raise TaskError(f"output {key!r} is {type(chosen).__name__}, not a tensor")
    return chosen
