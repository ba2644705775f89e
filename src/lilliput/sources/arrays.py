"""Arrays in an `.npz` file: inputs and targets by name; or in an `.npy` file, inputs alone."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.errors import TaskError

TARGETS = ("targets", "labels")


@dataclass(frozen=True)
class Arrays:
    """A map-style sequence over the first dimension of arrays; see `arrays`.

    Attributes:
        inputs: An array (N, ...), or arrays by the name under which the model takes them.
        targets: (N, ...), or None.
    """

    inputs: np.ndarray | dict[str, np.ndarray]
    targets: np.ndarray | None

    def __len__(self) -> int:
        inputs = self.inputs
        return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)

    def __getitem__(self, index: int) -> Any:
        inputs = self.inputs
        value: Any
        if isinstance(inputs, dict):
            value = {name: array[index] for name, array in inputs.items()}
        else:
            value = inputs[index]
        return value if self.targets is None else (value, self.targets[index])


def arrays(file: str | Path) -> Arrays:
    """Examples from an `.npz` file with an array ``inputs`` and optionally ``targets``.

    An `.npy` file holds the inputs alone.

    Other arrays beside ``targets`` are the model's inputs by name: ``model(name=...)``. All have
    the examples as their first dimension. Nothing is unpickled.

    Raises:
        TaskError: No such file, not an `.npz`, arrays of objects or of different lengths.
    """
    path = Path(file)
    hint = "np.savez(path, inputs=..., targets=...)"
    try:
        with path.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            single = isinstance(loaded, np.ndarray)
            held = {"inputs": loaded} if single else {n: loaded[n] for n in loaded.files}
        strange = [name for name, array in held.items() if not isinstance(array, np.ndarray)]
        if strange:
            raise TaskError(f"{path} is no .npz: it holds {strange[0]!r}", hint)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TaskError(f"{path} cannot be read as .npz: {error}", hint) from error
    target = next((name for name in TARGETS if name in held), None)
    targets = held.pop(target) if target else None
    if not held:
        raise TaskError(f"{path} holds no inputs", hint)
    everything = {**held, **({"targets": targets} if targets is not None else {})}
    lengths = {name: len(array) if array.ndim else 0 for name, array in everything.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TaskError(f"{path}: numbers of examples differ or are 0: {shown}")
    return Arrays(held["inputs"] if set(held) == {"inputs"} else held, targets)
