"""Going on in PyTorch: the user's own class with the compressed weights."""

import hashlib
import json
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lilliput.errors import CheckpointError
from lilliput.folders import WEIGHTS, read_manifest
from lilliput.rebuilding import apply_edits
from lilliput.records import Artifact

_Model = TypeVar("_Model", bound=nn.Module)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Writes a state dict; tensors registered under several names are stored once.

    Args:
        state: As `nn.Module.state_dict` returns it.
        path: The file.
    """
    stored: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        twin = first.setdefault(key, name) if tensor.numel() else name
        if twin == name:
            stored[name] = tensor.detach().cpu().contiguous().clone()
        else:
            ties[name] = twin
    # As bytes: `save_file` would let nobody but its writer read the file.
    path.write_bytes(save(stored, metadata={"ties": json.dumps(ties, sort_keys=True)}))


def load_into(folder: Path | str, *, model: _Model) -> _Model:
    """Puts the compressed weights into an instance of the user's own class.

    Args:
        folder: Output folder of a run.
        model: An instance of the class that was compressed; its weights are overwritten, and where
            its shape was changed (narrower, shorter, larger), so is its shape.

    Returns:
        The same instance.

    Raises:
        OutputError: The folder holds no artifact.
        CheckpointError: The weights were damaged, or do not fit the model.
    """
    manifest = read_manifest(Path(folder))
    state = stored_weights(Path(folder), manifest)
    if manifest.edits is not None:
        apply_edits(model, manifest.edits, state=state)
    check_fits(state, model)
    model.load_state_dict(state)
    return model


def stored_weights(folder: Path, manifest: Artifact) -> dict[str, Tensor]:
    """The weights for PyTorch in an output folder.

    Raises:
        CheckpointError: There are none, or they were damaged.
    """
    path = folder / WEIGHTS
    if manifest.kind == "onnx" and WEIGHTS not in manifest.files:
        raise CheckpointError(
            f"{folder} was made from an ONNX file and holds no weights for PyTorch",
            "run its model.onnx; or compress the PyTorch model itself",
        )
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if WEIGHTS not in manifest.files or manifest.files[WEIGHTS].sha256 != digest:
        raise CheckpointError(f"{path} is not the file the manifest describes")
    return _read(path)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            ties = json.loads((file.metadata() or {}).get("ties", "{}"))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return state | {name: state[twin] for name, twin in ties.items()}


def check_fits(state: dict[str, Tensor], model: nn.Module) -> None:
    """Whether a model has a place for each of these weights, and no other.

    Raises:
        CheckpointError: Names the first that differ.
    """
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    hint = "give an instance of the class that was compressed, built with the same arguments"
    if missing:
        raise CheckpointError(f"the artifact has no weights for {', '.join(missing[:5])}", hint)
    if unknown:
        raise CheckpointError(f"the model has no place for {', '.join(unknown[:5])}", hint)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"{name} has shape {tuple(tensor.shape)} in the artifact "
                f"and {tuple(own[name].shape)} in the model",
                hint,
            )
