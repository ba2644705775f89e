"""A captured graph as a module that can be trained: for cuts that a user's class cannot take."""

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from lilliput.model.exporting import silenced
from lilliput.shapes.flow import named_arguments, operator_name
from lilliput.shapes.resize import Kept, smaller_call

_SWITCHED = {"batch_norm": "training"} | dict.fromkeys(
    [
        "dropout",
        "dropout_",
        "alpha_dropout",
        "feature_dropout",
        "feature_alpha_dropout",
        "lstm",
        "gru",
    ],
    "train",
)


class GraphModel(fx.GraphModule):
    """The graph of a model, with the names of its weights and both of its modes.

    `train` and `eval` switch batch norms and dropout as in the class it was captured from;
    dropout inside of fused attention stays off.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "GraphModel":
        with silenced():  # PyTorch copies its own deprecated classes
            return cast("GraphModel", super().__deepcopy__(memo))

    def train(self, mode: bool = True) -> "GraphModel":
        """Switches every operator that works differently in training."""
        super().train(mode)
        for node in self.graph.nodes:
            flag = _SWITCHED.get(operator_name(node)) if node.op == "call_function" else None
            if flag:
                _set(node, named_arguments(node) | {flag: mode})
        self.recompile()
        return self


def graph_model(program: ExportedProgram, kept: Kept) -> GraphModel:
    """The captured graph over smaller weights, in evaluation mode.

    Args:
        program: The capture of the original.
        kept: Which positions stay.

    Raises:
        ShapeError: An operator's sizes cannot be written.
    """
    with silenced():
        unlifted = copy.deepcopy(program.module(check_guards=False))
    nodes = {node.name: node for node in unlifted.graph.nodes}
    for node in program.graph.nodes:
        call = smaller_call(kept, node) if node.op == "call_function" else None
        if call is not None:
            _rewrite(nodes[node.name], named_arguments(node), call, nodes)
    model = GraphModel(unlifted, unlifted.graph)
    replace_weights(model, kept.weights(weights_of(model)))
    return model.eval()


def save_graph(program: ExportedProgram, path: Path) -> None:
    """Writes a captured graph with its weights; `load_graph` reads it."""
    with silenced():
        torch.export.save(program, path)


def load_graph(path: Path) -> GraphModel:
    """The graph in a file, in evaluation mode; of a file that the caller trusts."""
    with silenced():
        unlifted = torch.export.load(path).module(check_guards=False)
    return GraphModel(unlifted, unlifted.graph).eval()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, those outside of ``state_dict`` too, tied ones by every name."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return parameters | dict(model.named_buffers(remove_duplicate=False))


def replace_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts tensors of other sizes in the place of parameters and buffers; ties stay tied."""
    made: dict[int, nn.Parameter] = {}
    for name, value in weights.items():
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        old = getattr(module, leaf)
        if isinstance(old, nn.Parameter):
            wanted = old.requires_grad
            new = made.setdefault(id(old), nn.Parameter(value, requires_grad=wanted))
            setattr(module, leaf, new)
        else:
            module.register_buffer(leaf, value, leaf not in module._non_persistent_buffers_set)


def _rewrite(
    node: fx.Node, before: dict[str, Any], call: tuple[Any, dict[str, Any]], nodes: dict[str, Any]
) -> None:
    """Gives a node of the copied graph what was changed on its twin."""
    own, (target, values) = named_arguments(node), call
    node.target = target
    changed = {
        name: own[name]
        if name in own and value is before.get(name)
        else fx.node.map_arg(value, lambda twin: nodes[twin.name])
        for name, value in values.items()
    }
    _set(node, changed)


def _set(node: fx.Node, values: dict[str, Any]) -> None:
    schema = node.target._schema  # type: ignore[union-attr]
    positional = [wanted.name for wanted in schema.arguments if not wanted.kwarg_only]
    node.args = tuple(values.pop(name) for name in positional if name in values)
    node.kwargs = values
