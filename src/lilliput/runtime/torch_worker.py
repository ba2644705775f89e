"""The measuring process of the weights-only path: PyTorch runs the user's class.

Started as ``python -m lilliput.runtime.torch_worker``. The parent sends the pickled structure of a
model that it holds itself; the values of all weights come from the artifact's file.
"""

import importlib.util
import io
import pickle
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.batches import call, flatten_tensors
from lilliput.errors import LilliputError
from lilliput.runtime.frames import read_message, write_message
from lilliput.runtime.programs import Program
from lilliput.runtime.weights_file import read_weights
from lilliput.runtime.worker import claim_pipes, serve


class _Reader(pickle.Unpickler):
    """Puts the artifact's tensors in the places that the parent left open."""

    def __init__(self, data: bytes, weights: Mapping[str, Tensor]) -> None:
        super().__init__(io.BytesIO(data))
        self._weights = weights
        self._made: dict[str, Tensor] = {}

    def persistent_load(self, key: Any) -> Tensor:
        """A parameter (or buffer) of that name; the same object each time."""
        name, is_parameter, needs_gradient = key
        if name not in self._made:
            value = self._weights[name]
            made = nn.Parameter(value, requires_grad=needs_gradient) if is_parameter else value
            self._made[name] = made
        return self._made[name]


def open_model(opening: Mapping[str, Any], pickled: bytes) -> Program:
    """The model with the artifact's weights, ready to run."""
    if opening["threads"]:
        torch.set_num_threads(opening["threads"])
    sys.path[:] = [*sys.path, *(p for p in opening["paths"] if p not in sys.path)]
    for name, file in opening["files"].items():
        _run_file(name, file)
    model: nn.Module = _Reader(pickled, read_weights(Path(opening["path"]))).load()
    model.eval()
    names = opening["names"]

    def program(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            outputs = flatten_tensors(call(model, arranged(arrays, names)))
        return [output.numpy() for output in outputs]

    return program


def arranged(arrays: Sequence[np.ndarray], names: list[str] | int) -> Any:
    """Inputs as the model is called with: by name, by position, or a tensor alone (0)."""
    tensors = [torch.from_numpy(array) for array in arrays]
    if isinstance(names, list):
        return dict(zip(names, tensors, strict=True))
    return tensors[0] if names == 0 else tuple(tensors)


def _run_file(name: str, file: str) -> None:
    """Runs one of the user's Python files under the name which its classes were pickled with."""
    if name == "__main__":
        main = ModuleType("__main__")
        main.__dict__.update(runpy.run_path(file, run_name="__mp_main__"))
        sys.modules["__main__"] = main
        return
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise ImportError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)


def main() -> None:
    """Reads the first message (which weights, which model), answers, then serves."""
    commands, answers = claim_pipes()
    opening, [pickled] = read_message(commands)
    try:
        program = open_model(opening, pickled.tobytes())
    except LilliputError as error:
        write_message(answers, {"error": error.message})
        return
    write_message(answers, {"precision": "float32"})
    serve(commands, answers, program)


if __name__ == "__main__":
    main()
