"""Which of a batch's tensors are images, sounds or tokens, and how one takes another's place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lilliput.batches import Inputs, as_inputs
from lilliput.errors import TaskError
from lilliput.learning.augmenting.augmentation import Augmented
from lilliput.task import DEFAULT_MASK

Key = int | str | None  # place in a tuple, name in a dict; None: the batch is the tensor itself
IDS = "input_ids"


def parts(inputs: Inputs) -> dict[Key, Tensor]:
    """The tensors of a batch by their place or name."""
    inputs = as_inputs(inputs)
    if isinstance(inputs, dict):
        found: dict[Key, Any] = dict(inputs)
    elif isinstance(inputs, tuple):
        found = dict(enumerate(inputs))
    else:
        found = {None: inputs}
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def with_parts(inputs: Inputs, changed: dict[Key, Tensor]) -> Inputs:
    """The same batch with some of its tensors changed; the one given is not touched."""
    inputs = as_inputs(inputs)
    if isinstance(inputs, dict):
        return {**inputs, **changed}
    if isinstance(inputs, tuple):
        return tuple(changed.get(place, value) for place, value in enumerate(inputs))
    return changed.get(None, inputs)


def is_images(tensor: Tensor) -> bool:
    """(N, 1 or 3, H, W) of floating point, or of uint8."""
    numbers = tensor.is_floating_point() or tensor.dtype == torch.uint8
    return numbers and tensor.ndim == 4 and tensor.shape[1] in (1, 3) and min(tensor.shape[2:]) > 1


def is_waveforms(tensor: Tensor) -> bool:
    """(N, T) or (N, 1, T) of floating point."""
    mono = tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[1] == 1)
    return tensor.is_floating_point() and mono and tensor.shape[-1] > 1


def is_spectrograms(tensor: Tensor) -> bool:
    """(N, F, T) or (N, 1, F, T) of floating point, F > 1."""
    bands = tensor.ndim == 3 or (tensor.ndim == 4 and tensor.shape[1] == 1)
    return tensor.is_floating_point() and bands and min(tensor.shape[-2:]) > 1


def is_sounds(tensor: Tensor) -> bool:
    """Waveforms or spectrograms, time last."""
    return is_waveforms(tensor) or is_spectrograms(tensor)


def is_tokens(tensor: Tensor) -> bool:
    """(N, T) of whole numbers."""
    return tensor.dtype in (torch.int64, torch.int32) and tensor.ndim == 2


def is_numbers(tensor: Tensor) -> bool:
    """Floating point, (N, ...)."""
    return tensor.is_floating_point() and tensor.ndim > 1


def the_one(
    name: str, inputs: Inputs, *, wanted: Callable[[Tensor], bool], told: str
) -> tuple[Key, Tensor]:
    """The tensor of a batch that an augmentation changes.

    Args:
        name: Of the augmentation.
        inputs: A batch.
        wanted: Whether a tensor has the form it takes.
        told: That form in words.

    Raises:
        TaskError: There is none, or more than one.
    """
    given = parts(inputs)
    found = [(key, tensor) for key, tensor in given.items() if wanted(tensor)]
    if len(found) == 1:
        return found[0]
    raise _unfit(name, inputs, told, "none" if not found else "more than one")


def _unfit(name: str, inputs: Inputs, told: str, number: str) -> TaskError:
    shown = ", ".join(_shown(key, tensor) for key, tensor in parts(inputs).items())
    return TaskError(
        f"{name} takes one input of {told}, and {number} is among the inputs: "
        f"{shown or 'no tensor'}",
        "leave it out of the policy",
    )


def _shown(key: Key, tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{'' if key is None else f'{key} '}{kind} {tuple(tensor.shape)}"


@dataclass(frozen=True)
class Tokens:
    """The token numbers of a batch.

    Attributes:
        key: Where they are.
        ids: int64, (N, T).
        real: Whether a position is no padding, (N, T) bool.
        mask: Where the attention mask is; "" where there is none.
        beside: Everything else that runs along the tokens, (N, T).
    """

    key: Key
    ids: Tensor
    real: Tensor
    mask: Key
    beside: dict[Key, Tensor]

    @property
    def inner(self) -> Tensor:
        """Real positions but for the first and the last of each text, (N, T) bool.

        These are where tokenizers put their special tokens.
        """
        seen = self.real.long().cumsum(1)  # (N, T)
        return self.real & (seen > 1) & (seen < seen[:, -1:])


def tokens_of(name: str, inputs: Inputs) -> Tokens:
    """The tokens of a batch: ``input_ids`` in a dict, else the first whole numbers (N, T).

    The mask is ``attention_mask`` in a dict, in a tuple what else holds 0 and 1 only.

    Raises:
        TaskError: There are none.
    """
    along = {key: tensor for key, tensor in parts(inputs).items() if is_tokens(tensor)}
    named = [key for key in along if key != DEFAULT_MASK]
    if not named:
        raise _unfit(name, inputs, "token numbers, int64 (N, T)", "none")
    key = IDS if IDS in along else named[0]
    ids = along.pop(key)
    along = {other: tensor for other, tensor in along.items() if tensor.shape == ids.shape}
    mask: Key = DEFAULT_MASK if DEFAULT_MASK in along else ""
    if isinstance(key, int):
        mask = next((other for other in along if _is_mask(along[other])), "")
    real = along[mask].bool() if mask in along else torch.ones_like(ids, dtype=torch.bool)
    return Tokens(key, ids, real, mask, along)


def _is_mask(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all())


def check_targets_stay(name: str, given: Augmented, *, places: tuple[int, ...]) -> None:
    """Refuses to move positions where every position has a target of its own.

    Args:
        name: Of the augmentation.
        given: A batch with its targets.
        places: Sizes of the positions: (H, W) of images, (T,) of tokens.

    Raises:
        TaskError: The targets have a number per position.
    """
    for targets, _ in given.targets:
        if isinstance(targets, Tensor) and places in _ends(targets, len(places)):
            raise TaskError(
                f"{name} moves positions, and the targets {tuple(targets.shape)} have one per "
                "position, which would stay where they are",
                "leave it out of the policy",
            )


def _ends(targets: Tensor, count: int) -> tuple[tuple[int, ...], ...]:
    """Where targets (N, ...) have their positions: right after the examples, or last."""
    sizes = tuple(targets.shape[1:])
    return (sizes[:count], sizes[-count:]) if len(sizes) >= count else ()
