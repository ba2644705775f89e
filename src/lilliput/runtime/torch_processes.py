"""The parent's side of the weights-only path: the model's structure goes to a fresh process."""

import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lilliput.batches import as_inputs
from lilliput.environment import RUNTIME_TITLES
from lilliput.errors import CaptureError
from lilliput.runtime.processes import Worker


class TorchWorker(Worker):
    """A fresh process in which PyTorch runs the user's class with the weights of a file.

    Unlike `Worker`, it has to import the user's code: there is no graph.

    Args:
        path: What `write_weights` wrote.
        model: The user's model; only its structure is sent.
        inputs: Any batch: says how the model is called.
        threads: PyTorch's threads; 0 leaves the choice to PyTorch.
        timeout: Seconds that one answer may take.

    Raises:
        CaptureError: The model cannot be pickled.
        ContainerError: The file holds no weights.
        InternalError: The process died, e.g. because the user's code failed there.
    """

    def __init__(
        self, path: Path, model: nn.Module, *, inputs: Any, threads: int = 0, timeout: float = 600
    ) -> None:
        self._title = RUNTIME_TITLES["pytorch"]
        pickled, files, paths = _structure(model)
        inputs = as_inputs(inputs)
        names: list[str] | int = int(isinstance(inputs, tuple))
        opening = {
            "path": str(path.resolve()),
            "threads": threads,
            "files": files,
            "paths": paths,
            "names": list(inputs) if isinstance(inputs, dict) else names,
        }
        self._start(
            "lilliput.runtime.torch_worker",
            opening,
            timeout,
            [np.frombuffer(pickled, np.uint8)],
        )


class _Writer(pickle.Pickler):
    """Pickles a model's structure; in the place of each tensor of its state goes a name."""

    def __init__(self, buffer: io.BytesIO, names: Mapping[int, str]) -> None:
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self._names = names

    def persistent_id(self, value: Any) -> Any:
        """Name, kind and need for gradients of a tensor of the state; None for all else."""
        if isinstance(value, Tensor) and id(value) in self._names:
            return self._names[id(value)], isinstance(value, nn.Parameter), value.requires_grad
        return None


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each tensor under its first name only."""
    state: dict[str, Tensor] = dict(model.named_parameters())
    persistent = model.state_dict().keys()
    return state | {n: b for n, b in model.named_buffers() if n in persistent}


def _structure(model: nn.Module) -> tuple[bytes, dict[str, str], list[str]]:
    """The pickled structure, the user's files it needs, and where modules are found."""
    buffer = io.BytesIO()
    names = {id(value): name for name, value in stored_state(model).items()}
    try:
        _Writer(buffer, names).dump(model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CaptureError(
            f"the model cannot be sent to a fresh process: {str(error).splitlines()[0]}",
            "define its classes at the top level of a Python file, without lambdas",
        ) from error
    files: dict[str, str] = {}
    paths = [path for path in sys.path if path]
    for name in dict.fromkeys(type(module).__module__ for module in model.modules()):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:
            continue
        if name == "__main__" or name.startswith("lilliput_user_"):
            files[name] = file
            paths.append(str(Path(file).parent))
        else:
            depth = name.count(".") + (Path(file).name == "__init__.py")
            paths.append(str(Path(file).parents[depth]))
    return buffer.getvalue(), files, list(dict.fromkeys(paths))
