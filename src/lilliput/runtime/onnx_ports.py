"""What an ONNX graph takes: names, types and shapes of its inputs, and where the batch is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from lilliput.errors import TaskError

_TYPES = {
    ir.DataType.FLOAT: np.float32,
    ir.DataType.FLOAT16: np.float16,
    ir.DataType.DOUBLE: np.float64,
    ir.DataType.INT64: np.int64,
    ir.DataType.INT32: np.int32,
    ir.DataType.INT16: np.int16,
    ir.DataType.INT8: np.int8,
    ir.DataType.UINT8: np.uint8,
    ir.DataType.BOOL: np.bool_,
}


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    Attributes:
        name: Its name.
        kind: Type of its numbers.
        sizes: Size of each axis, None where it varies; None as a whole where nothing is declared.
        batch: The axis of the batch; None where the input is one for all examples.
    """

    name: str
    kind: np.dtype[Any]
    sizes: tuple[int | None, ...] | None
    batch: int | None

    def __str__(self) -> str:
        shape = "any shape"
        if self.sizes is not None:
            shape = " x ".join("any" if size is None else str(size) for size in self.sizes)
        return f"{self.name} ({self.kind}, {shape or 'one number'})"

    def ready(self, value: Any) -> np.ndarray:
        """One example's value as the graph takes it, the batch axis of size 1 put in if it lacks.

        Raises:
            TaskError: Its type or shape does not fit; says what is expected.
        """
        found = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        array = self._cast(found)
        if self.sizes is None:
            return array[None] if self.batch is not None else array
        if self.batch is not None and array.ndim == len(self.sizes) - 1:
            array = np.expand_dims(array, self.batch)
        fits = array.ndim == len(self.sizes) and all(
            wanted in (None, size) or (axis == self.batch and size == 1)
            for axis, (size, wanted) in enumerate(zip(array.shape, self.sizes, strict=True))
        )
        one = self.batch is None or array.shape[self.batch : self.batch + 1] == (1,)
        if not fits or not one:
            raise TaskError(
                f"an example of {self.name} has shape {found.shape}, the graph takes {self}",
                "the first axis of the arrays counts the examples",
            )
        return np.ascontiguousarray(array).reshape(array.shape)

    def _cast(self, array: np.ndarray) -> np.ndarray:
        """The same numbers in the graph's type: floats to floats, integers to wider ones."""
        if array.dtype == self.kind:
            return array
        floats = array.dtype.kind == "f" and self.kind.kind == "f"
        integers = array.dtype.kind in "iub" and self.kind.kind in "iu"
        if floats or (integers and np.array_equal(array.astype(self.kind), array)):
            return array.astype(self.kind)
        raise TaskError(
            f"{self.name} is given as {array.dtype}, the graph takes {self}",
            "convert the arrays first: array.astype(...)",
        )


def ports_of(model: ir.Model) -> tuple[Port, ...]:
    """The inputs of a graph in its order, initializers left out.

    The batch is the first axis of the first input; in other inputs the axis of the same name, else
    the first that varies too (or, where the batch is fixed at 1, the first of that size).

    Raises:
        TaskError: An input that is no tensor of numbers.
    """
    graph = model.graph
    values = [value for value in graph.inputs if value.name not in graph.initializers]
    if not values:
        raise TaskError("the ONNX graph has no inputs")
    lead = next((value for value in values if value.shape is None or len(value.shape)), values[0])
    return tuple(_port(value, lead) for value in values)


def _port(value: ir.Value, lead: ir.Value) -> Port:
    if value.dtype not in _TYPES or not isinstance(value.type, ir.TensorType):
        raise TaskError(
            f"input {value.name} of the ONNX graph is {value.type}",
            f"supported are {', '.join(sorted(np.dtype(t).name for t in _TYPES.values()))}",
        )
    kind = np.dtype(_TYPES[value.dtype])
    if value.shape is None:
        return Port(value.name or "", kind, None, 0)
    sizes = tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape)
    return Port(value.name or "", kind, sizes, _batch_axis(value, lead, sizes))


def _batch_axis(value: ir.Value, lead: ir.Value, sizes: tuple[int | None, ...]) -> int | None:
    if not sizes:
        return None
    if value is lead:
        return 0
    wanted = None if lead.shape is None else lead.shape[0]
    names = [str(dim) for dim in value.shape or ()]
    if isinstance(wanted, ir.SymbolicDim) and wanted.value and wanted.value in names:
        return names.index(wanted.value)
    size = wanted if isinstance(wanted, int) and wanted == 1 else None
    return sizes.index(size) if size in sizes else None


def made_up(ports: Iterable[Port], size: int) -> dict[str, np.ndarray]:
    """Inputs of one call where nobody has any: noise, integers 0 or 1, `size` on open axes."""
    generator = np.random.default_rng(0)
    feed = {}
    for port in ports:
        sizes = [size if known is None else known for known in port.sizes or (1, size)]
        if port.batch is not None and sizes:
            sizes[port.batch] = (port.sizes or (None,))[port.batch] or 1
        noise = generator.standard_normal(sizes) if port.kind.kind == "f" else None
        chosen = generator.integers(0, 2, sizes) if noise is None else noise
        feed[port.name] = np.asarray(chosen).astype(port.kind)
    return feed


@dataclass(frozen=True)
class Collate:
    """Puts ready examples of equal shapes into one batch.

    Attributes:
        ports: The graph's inputs.
        most: Most examples in a batch; None for as many as one likes.
        pads: Examples of unequal shapes never share a batch.
    """

    ports: tuple[Port, ...]
    most: int | None = None
    pads: bool = False

    def __call__(self, examples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        """Inputs by name; what has no batch axis is taken from the first example."""
        return {port.name: self._joined(port, examples) for port in self.ports}

    def _joined(self, port: Port, examples: Sequence[Mapping[str, np.ndarray]]) -> Tensor:
        arrays = [example[port.name] for example in examples]
        if port.batch is None or len(arrays) == 1:
            return torch.from_numpy(arrays[0].copy())
        return torch.from_numpy(np.concatenate(arrays, port.batch))


def apart(ports: Iterable[Port], inputs: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The examples of one batch, each as a batch of one."""
    ports = list(ports)
    count = next((inputs[p.name].shape[p.batch] for p in ports if p.batch is not None), 1)
    for place in range(count):
        yield {
            port.name: inputs[port.name]
            if port.batch is None
            else inputs[port.name].narrow(port.batch, place, 1).contiguous()
            for port in ports
        }
