"""What `compress` or a change of shape wrote, as a model that PyTorch can go on with."""

from pathlib import Path

from torch import nn

from lilliput.continuing import check_fits, load_into, stored_weights
from lilliput.errors import CheckpointError
from lilliput.folders import GRAPH, file_entry, read_manifest
from lilliput.shapes.graphmodel import load_graph


def load(folder: Path | str, *, model: nn.Module) -> nn.Module:
    """An instance of the user's own class with the compressed weights, in the shape they have.

    Where the class could not take the new shape (a view that spells out a size), it is the captured
    graph instead: it can be trained and exported, its weights have the same names, but it has none
    of the class's other methods, and its inputs are those of the capture.

    Args:
        folder: Output folder of a run.
        model: An instance of the class that was compressed; its weights, and where it was changed
            its shape, are overwritten.

    Returns:
        The same instance, or the graph.

    Raises:
        OutputError: The folder holds no artifact.
        CheckpointError: The weights were damaged, or do not fit the model.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if GRAPH not in manifest.files:
        return load_into(folder, model=model)
    if file_entry(folder / GRAPH) != manifest.files[GRAPH]:
        raise CheckpointError(f"{folder / GRAPH} is not the file the manifest describes")
    graph = load_graph(folder / GRAPH)
    state = stored_weights(folder, manifest)
    check_fits(state, graph)
    graph.load_state_dict(state)
    return graph
