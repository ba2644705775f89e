"""Examples become batches: collating, padding, flattening, and the bytes that name an example."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree

from lilliput.errors import TaskError
from lilliput.scoring import IGNORE


class Examples(Protocol):
    """A map-style sequence: it has a length and is indexed by number."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


Inputs = Any  # a tensor, a tuple of tensors or a dict of tensors

WINDOW_BYTES = 64 * 2**20  # examples held in memory while they are sorted by length
WINDOW_EXAMPLES = 4096


@dataclass(frozen=True)
class Example:
    """One example: its place in the task, its input, its target (None: unlabelled), its group."""

    index: int
    input: Any
    target: Any
    group: Any


@dataclass(frozen=True)
class Batch:
    """Examples that go through the model together.

    Attributes:
        inputs: A tensor, a tuple or a dict of tensors, batch first.
        targets: Collated tensor where the targets are numbers of one shape (integers per position
            are padded with -100), a list otherwise, None without targets.
        indices: Places in the task, (N,) int64.
        groups: Group of each example, (N,) int64; examples of one group are not independent.
        mask: (N, T), 1 = real position; None where nothing is padded.
    """

    inputs: Inputs
    targets: Any
    indices: np.ndarray
    groups: np.ndarray
    mask: Tensor | None

    def __len__(self) -> int:
        return len(self.indices)


def flatten_tensors(value: Any) -> list[Tensor]:
    """Tensor leaves of inputs or outputs, in torch's pytree order (as torch.export flattens)."""
    return [leaf for leaf in _pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def flatten_inputs(inputs: Inputs) -> list[np.ndarray]:
    """The arrays of a batch in the order in which the exported graph takes them."""
    return [leaf.detach().cpu().numpy() for leaf in flatten_tensors(as_inputs(inputs))]


def as_inputs(value: Any) -> Inputs:
    """A batch as a tensor, a tuple or a plain dict (a tokenizer's mapping becomes one)."""
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(value) if isinstance(value, list) else value


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """``model(x)``, ``model(*x)`` for a tuple or ``model(**x)`` for a dict."""
    inputs = as_inputs(inputs)
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def call_form(inputs: Inputs) -> str:
    """How `call` calls the model, for messages."""
    inputs = as_inputs(inputs)
    if isinstance(inputs, dict):
        return f"model({', '.join(f'{key}=...' for key in inputs)})"
    return f"model(*inputs) with {len(inputs)} inputs" if isinstance(inputs, tuple) else "model(x)"


def to_tensor(value: Any) -> Tensor:
    """A tensor of one input: tensors, NumPy arrays, numbers and lists of numbers.

    Raises:
        TaskError: Anything else.
    """
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad else value
    try:
        tensor = torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"an input of type {type(value).__name__} cannot become a tensor",
            "give tensors or arrays, or a collate function",
        ) from error
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def collate_inputs(inputs: Sequence[Any]) -> Inputs:
    """Stack inputs, batch first; variable lengths are padded with 0 at their end.

    Args:
        inputs: Tensors, arrays or numbers, or tuples or dicts of them, all of one structure.

    Raises:
        TaskError: Structures, keys or numbers of dimensions that differ between examples.
    """
    first = inputs[0]
    if isinstance(first, Mapping):
        if any(set(value) != set(first) for value in inputs):
            raise TaskError("examples have different input names", "every dict needs the same keys")
        return {key: pad_stack([to_tensor(value[key]) for value in inputs]) for key in first}
    if isinstance(first, tuple):
        if any(len(value) != len(first) for value in inputs):
            raise TaskError("examples have different numbers of inputs")
        return tuple(pad_stack([to_tensor(v[i]) for v in inputs]) for i in range(len(first)))
    return pad_stack([to_tensor(value) for value in inputs])


def pad_stack(tensors: Sequence[Tensor], fill: float = 0) -> Tensor:
    """Stack to (N, ...), each padded with `fill` to the largest size of every dimension.

    Raises:
        TaskError: Different numbers of dimensions.
    """
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) == 1:
        return torch.stack(list(tensors))  # (N, ...)
    if len({len(shape) for shape in shapes}) > 1:
        raise TaskError(f"examples have different numbers of dimensions: {sorted(shapes)[:4]}")
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    stacked = tensors[0].new_full((len(tensors), *largest), fill)
    for row, tensor in zip(stacked, tensors, strict=True):
        row[tuple(slice(size) for size in tensor.shape)] = tensor
    return stacked


def collate_targets(targets: Sequence[Any]) -> Any:
    """Targets of a batch: one tensor where they are numbers, else the list; None without any.

    Integers of variable length are padded with -100, which no metric scores.

    Raises:
        TaskError: Some examples have a target and some have none.
    """
    kinds = set(map(type, targets))
    if kinds == {int} or kinds == {float}:  # class numbers, mostly: as below, and sooner
        return to_tensor(list(targets))
    missing = sum(target is None for target in targets)
    if missing == len(targets):
        return None
    if missing:
        raise TaskError("some examples have a target and some have none", "label all or none")
    if not all(isinstance(t, Tensor | np.ndarray | np.generic | int | float) for t in targets):
        return list(targets)
    tensors = [to_tensor(target) for target in targets]
    if len({tuple(tensor.shape) for tensor in tensors}) == 1:
        return torch.stack(tensors)
    if all(t.ndim == tensors[0].ndim and not t.is_floating_point() for t in tensors):
        return pad_stack(tensors, IGNORE)
    return list(targets)


def shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    """Shape of every array of one input, in order."""
    if isinstance(value, Tensor):
        return (tuple(value.shape),)
    if isinstance(value, Mapping):
        return tuple(shape for item in value.values() for shape in shapes(item))
    if isinstance(value, tuple):
        return tuple(shape for item in value for shape in shapes(item))
    return (tuple(np.shape(value)),)


def summarize(value: Any) -> str:
    """One line about an input: its text, or shape and extent of its arrays."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {summarize(item)}" for key, item in value.items())
    if isinstance(value, tuple):
        return ", ".join(summarize(item) for item in value)
    if isinstance(value, str):
        return value if len(value) <= 200 else f"{value[:197]}..."
    array = np.asarray(value.detach().cpu().float() if isinstance(value, Tensor) else value)
    if array.ndim == 0:
        return str(array)
    extent = f" from {array.min():.4g} to {array.max():.4g}" if array.size else ""
    return f"{' x '.join(str(size) for size in array.shape)} numbers{extent}"


def at_most(collate: Callable[..., Any] | None, size: int) -> int:
    """A batch size, or the most examples that the collate function takes: its ``most``."""
    return min(size, getattr(collate, "most", None) or size)


def pads(collate: Callable[..., Any] | None) -> bool:
    """Whether a collate function takes unequal shapes: its ``pads``, by default yes."""
    return collate is not None and bool(getattr(collate, "pads", True))


def windows(examples: Iterable[Example], batch_size: int) -> Iterator[list[Example]]:
    """Stretches of whole batches that fit in memory, within which examples may be sorted."""
    window: list[Example] = []
    held = 0
    for example in examples:
        window.append(example)
        held += 4 * sum(int(np.prod(shape)) for shape in shapes(example.input))
        full = held >= WINDOW_BYTES or len(window) >= WINDOW_EXAMPLES
        if full and len(window) % batch_size == 0:
            yield window
            window, held = [], 0
    if window:
        yield window


def cut(window: list[Example], batch_size: int, *, pads: bool) -> Iterator[list[Example]]:
    """Batches of a window, shortest inputs first; unequal shapes share a batch only if `pads`."""
    ordered = sorted(window, key=lambda example: (shapes(example.input), example.index))
    batch: list[Example] = []
    for example in ordered:
        unequal = batch and not pads and shapes(batch[0].input) != shapes(example.input)
        if len(batch) == batch_size or unequal:
            yield batch
            batch = []
        batch.append(example)
    if batch:
        yield batch


def digest(value: Any) -> bytes:
    """SHA-256 over type, shape and bytes of an input or a target.

    Raises:
        TaskError: A type whose bytes are not known.
    """
    sha = hashlib.sha256()
    for chunk in _chunks(value):
        sha.update(len(chunk).to_bytes(8, "little"))
        sha.update(chunk)
    return sha.digest()


def _chunks(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield f"key {key}".encode()
            yield from _chunks(value[key])
    elif isinstance(value, tuple | list):
        yield f"{len(value)} items".encode()
        for item in value:
            yield from _chunks(item)
    elif value is None or isinstance(value, bool | int | float | str | bytes):
        yield type(value).__name__.encode()
        yield value if isinstance(value, bytes) else str(value).encode()
    elif hasattr(value, "tobytes"):
        yield f"{getattr(value, 'mode', '')}{getattr(value, 'size', '')}".encode()
        yield value.tobytes()
    else:
        raise TaskError(
            f"the bytes of a {type(value).__name__} are not known, so examples cannot be split",
            "give tensors, arrays, numbers or text, or a method fingerprint(index) -> bytes",
        )


def group_number(group: Hashable) -> int:
    """A stable 63-bit number of a group."""
    if isinstance(group, int):
        return int(group)
    return int.from_bytes(hashlib.sha256(repr(group).encode()).digest()[:8], "little") >> 1
