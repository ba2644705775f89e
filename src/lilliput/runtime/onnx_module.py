"""An ONNX graph as a module: its weights are parameters, ONNX Runtime runs it.

`torch.func.functional_call` with other weights works as for any module: the weights are inputs of
the session that have defaults, so nothing is built anew for a trial.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from lilliput.errors import TaskError
from lilliput.model.calls import arguments
from lilliput.runtime.onnx_clean import array_of, save
from lilliput.runtime.onnx_ports import Port, apart, ports_of
from lilliput.runtime.onnx_read import OnnxFile
from lilliput.runtime.onnx_reads import Tap, taps_of
from lilliput.runtime.onnx_taps import tapped
from lilliput.runtime.sessions import default_session, run_session

_WEIGHT_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
_SETTINGS = frozenset({"Resize", "Upsample", "Clip", "Pad", "Range", "OneHot", "Dropout"})


@dataclass(frozen=True)
class Slot:
    """Where a weight of the graph is among the parameters.

    Attributes:
        initializer: Its name in the file.
        parameter: Its qualified name.
        owner: The module that holds it.
        attribute: Its name there.
        value: The parameter as it was read.
        version: Of its value, which an edit in place would raise.
    """

    initializer: str
    parameter: str
    owner: nn.Module
    attribute: str
    value: Tensor
    version: int


class OnnxModule(nn.Module):
    """An ONNX graph that is called as ``module(x)``, ``module(*xs)`` or ``module(**inputs)``.

    Parameters have the names of the file's floating-point initializers, those of a number each
    and of settings (scales of a Resize, ends of a Clip) left out. It has no gradients.

    Args:
        model: The graph, its weights as initializers.
        file: As it was read.
        notes: What the user should know about it.

    Raises:
        ContainerError: The runtime cannot run the graph.
        TaskError: An input or output that is no tensor of numbers.
    """

    def __init__(self, model: ir.Model, *, file: OnnxFile, notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.onnx = model
        self.notes = (*file.notes, *notes)
        self._path = file.path
        self._whole = None if file.self_contained else file.model
        self.ports: tuple[Port, ...] = ports_of(model)
        self.outputs = tuple(value.name or "" for value in model.graph.outputs)
        self._slots = tuple(self._adopt(name) for name in weights_of_graph(model))
        names = [slot.initializer for slot in self._slots]
        self._session = default_session(_exposed(model, names))
        odd = [value.name for value in self._session.get_outputs() if "tensor" not in value.type]
        if odd:
            raise TaskError(f"output {odd[0]} of the ONNX graph is no tensor")
        self._taps: tuple[dict[str, Tap], Any] | None = None

    @property
    def initializers(self) -> dict[str, str]:
        """Parameter -> the initializer that it is."""
        return {slot.parameter: slot.initializer for slot in self._slots}

    def forward(self, *args: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """All outputs by name, in the file's order.

        Args:
            args: Inputs in the graph's order.
            inputs: Inputs by name.
        """
        answers = run_session(self._session, self._feed(args, inputs))
        return {
            name: torch.from_numpy(np.asarray(answer))
            for name, answer in zip(self.outputs, answers, strict=True)
        }

    def inside(self, inputs: Any) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        """Each example of a batch, and what its weights are applied to and its convolutions give.

        One example is in memory at a time; a source in a branch that was not taken is left out.
        """
        if self._taps is None:
            found = taps_of(self.onnx, self.initializers)
            self._taps = found, tapped(self.onnx, found)
        taps, session = self._taps
        for example in apart(self.ports, self._named(*arguments(inputs))):
            feed = {name: value.numpy() for name, value in example.items()}
            answers = session.run(feed)
            values = {name: tap.value(answers) for name, tap in taps.items()}
            yield example, {n: torch.from_numpy(v) for n, v in values.items() if v is not None}

    def baseline_in(self, folder: Path) -> Path:
        """The file as the user has it; with its external data put in, where it has any."""
        if self._whole is None:
            return self._path
        path = folder / "original.onnx"
        save(self._whole, path)
        return path

    def _adopt(self, name: str) -> Slot:
        array = array_of(self.onnx.graph.initializers[name])
        weight = nn.Parameter(torch.from_numpy(array.copy()), requires_grad=False)
        *path, attribute = _plain_path(self, name)
        owner: nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner._parameters[attribute] = weight  # a name such as "type" is none of a module's own
        return Slot(name, ".".join((*path, attribute)), owner, attribute, weight, weight._version)

    def _feed(self, args: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        named = self._named(args, inputs)
        return {name: value.detach().numpy() for name, value in named.items()} | self._changed()

    def _named(self, args: tuple[Tensor, ...], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = [port.name for port in self.ports]
        named = {**dict(zip(names, args, strict=False)), **inputs}
        if set(named) != set(names) or len(args) > len(names):
            raise TaskError(
                f"the ONNX graph is given {', '.join(named)}",
                f"it takes {', '.join(map(str, self.ports))}",
            )
        return {name: named[name] for name in names}

    def _changed(self) -> dict[str, np.ndarray]:
        """Weights that are no longer those of the file."""
        found = {}
        for slot in self._slots:
            now = slot.owner._parameters[slot.attribute]
            if now is None or (now is slot.value and now._version == slot.version):
                continue
            found[slot.initializer] = now.detach().to(slot.value.dtype).contiguous().numpy()
        return found


def weights_of_graph(model: ir.Model) -> list[str]:
    """Initializers that are weights, in the order in which they are first read."""
    ranks = {id(node): rank for rank, node in enumerate(model.graph.all_nodes())}
    found = [
        name
        for name, value in model.graph.initializers.items()
        if value.dtype in _WEIGHT_TYPES
        and value.const_value is not None
        and len(value.const_value.shape) > 0
        and value.const_value.size > 0
        and value.uses()
        and not value.is_graph_output()
        and not any(use.node.op_type in _SETTINGS and use.idx > 0 for use in value.uses())
    ]
    weights = model.graph.initializers
    return sorted(found, key=lambda name: min(ranks[id(use.node)] for use in weights[name].uses()))


def _exposed(model: ir.Model, names: list[str]) -> bytes:
    """The graph with some initializers as inputs that have a default."""
    open_model = model.clone()
    open_model.ir_version = max(open_model.ir_version, 4)
    for name in names:
        open_model.graph.inputs.append(open_model.graph.initializers[name])
    return bytes(ir.to_proto(open_model).SerializeToString())


def _plain_path(root: nn.Module, name: str) -> list[str]:
    """The parts of a dotted name, or the whole of it where the parts cannot be modules."""
    parts = name.split(".")
    *path, attribute = parts
    owner: nn.Module = root
    for part in path:
        known = part in owner._modules
        if not part or part in owner._parameters or (not known and hasattr(owner, part)):
            return [name.replace(".", "/")]
        owner = owner.get_submodule(part) if known else nn.Module()
    clash = not attribute or attribute in owner._modules
    return [name.replace(".", "/")] if clash else parts
