"""The table of modules the weights-only path knows: which weights each applies to what."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.model.calls import Arguments
from lilliput.model.convolution import Geometry
from lilliput.model.reads import Operation
from lilliput.model.recurrent import applied_to, layout
from lilliput.model.sites import Kind

_aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class ModuleRead:
    """One weight of a module and the value it is applied to in one call.

    Attributes:
        attribute: Name of the parameter within the module.
        value: What the weight is applied to: ids, a map, or a tensor with the inputs last.
        operation: How.
        kind: Kind of site this makes of the weight.
        shape: Shape of the parameter.
        label: Which of the module's values it is.
        geometry: Convolutions: how the kernel walks.
        rows: Rows of the weight that are read; None means all.
    """

    attribute: str
    value: Tensor
    operation: Operation
    kind: Kind
    shape: tuple[int, ...]
    label: str = ""
    geometry: Geometry | None = None
    rows: Tensor | None = None


def reads_of(module: nn.Module, call: Arguments) -> list[ModuleRead]:
    """What a module is about to read; empty for a module that is not in the table.

    A subclass with a ``forward`` of its own is not in the table.
    """
    for known, read in _TABLE.items():
        if isinstance(module, known) and type(module).forward is known.forward:
            return read(module, call)
    return []


def _argument(call: Arguments, position: int, name: str) -> Any:
    args, kwargs = call
    return args[position] if len(args) > position else kwargs.get(name)


def _linear(module: Any, call: Arguments) -> list[ModuleRead]:
    value, shape = _argument(call, 0, "input"), tuple(module.weight.shape)
    return [ModuleRead("weight", value, "linear", "linear", shape)]


def _embedding(module: Any, call: Arguments) -> list[ModuleRead]:
    value, shape = _argument(call, 0, "input"), tuple(module.weight.shape)
    return [ModuleRead("weight", value, "embedding", "embedding", shape)]


def _conv(module: Any, call: Arguments) -> list[ModuleRead]:
    value, shape = _argument(call, 0, "input"), tuple(module.weight.shape)
    settings = [module.stride, module.padding, module.dilation, module.groups]
    if module.padding_mode != "zeros":
        pads = module._reversed_padding_repeated_twice
        value, settings[1] = nn.functional.pad(value, pads, mode=module.padding_mode), 0
    geometry = Geometry.of(shape[2:], settings)
    return [ModuleRead("weight", value, "conv", "conv", shape, geometry=geometry)]


def _recurrent(module: Any, call: Arguments) -> list[ModuleRead]:
    value, given = _argument(call, 0, "input"), _argument(call, 1, "hx")
    if not isinstance(value, Tensor) or value.ndim != 3:
        return []
    weights = [weight for layer in module.all_weights for weight in layer]
    names = [
        name
        for layer in range(module.num_layers)
        for suffix in ("", "_reverse")[: 1 + module.bidirectional]
        for name in _names(module, f"l{layer}{suffix}")
    ]
    states = given if given is not None else _zero_states(module, value)
    target = _op(module)
    flags = (module.bias, module.num_layers, 0.0, False, module.bidirectional, module.batch_first)
    args = (value, states, weights, *flags)
    seen = applied_to(target, args)
    return [
        ModuleRead(
            names[part.place],
            seen[part.label],
            "recurrent",
            "recurrent",
            tuple(weights[part.place].shape),
            label=part.label,
        )
        for part in layout(target, args).parts()
    ]


def _names(module: Any, suffix: str) -> list[str]:
    kinds = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    kinds += ["weight_hr"] if getattr(module, "proj_size", 0) else []
    return [f"{kind}_{suffix}" for kind in kinds]


def _op(module: Any) -> Any:
    if isinstance(module, nn.LSTM):
        return _aten.lstm.input
    if isinstance(module, nn.GRU):
        return _aten.gru.input
    return _aten.rnn_tanh.input if module.nonlinearity == "tanh" else _aten.rnn_relu.input


def _zero_states(module: Any, value: Tensor) -> Any:
    batch = value.shape[0 if module.batch_first else 1]
    layers = module.num_layers * (1 + module.bidirectional)
    hidden = getattr(module, "proj_size", 0) or module.hidden_size
    state = value.new_zeros(layers, batch, hidden)
    if not isinstance(module, nn.LSTM):
        return state
    return [state, value.new_zeros(layers, batch, module.hidden_size)]


def _attention(module: Any, call: Arguments) -> list[ModuleRead]:
    values = [_argument(call, place, name) for place, name in enumerate(("query", "key", "value"))]
    query, key, value = values
    width = module.embed_dim
    mixed = _mixed(module, call)
    out = ModuleRead(
        "out_proj.weight", mixed, "linear", "linear", (width, width), label="attention"
    )
    if module.in_proj_weight is None:
        return [*_separate(module, values), out]
    shape = (3 * width, width)
    if query is key and key is value:
        return [ModuleRead("in_proj_weight", query, "linear", "linear", shape, "query"), out]
    labels = ["query", "key", "key" if key is value else "value"]
    packed = [
        ModuleRead(
            "in_proj_weight",
            fed,
            "linear",
            "linear",
            shape,
            label=label,
            rows=torch.arange(place * width, (place + 1) * width),
        )
        for place, (label, fed) in enumerate(zip(labels, values, strict=True))
    ]
    return [*packed, out]


def _separate(module: Any, values: list[Tensor]) -> list[ModuleRead]:
    return [
        ModuleRead(
            f"{letter}_proj_weight",
            fed,
            "linear",
            "linear",
            tuple(getattr(module, f"{letter}_proj_weight").shape),
            label=letter,
        )
        for letter, fed in zip("qkv", values, strict=True)
    ]


def _mixed(module: Any, call: Arguments) -> Tensor:
    """What the output projection is applied to: attention with the identity in its place."""
    args, kwargs = call
    plain = {"out_proj.weight": torch.eye(module.embed_dim, dtype=module.out_proj.weight.dtype)}
    if module.out_proj.bias is not None:
        plain["out_proj.bias"] = torch.zeros_like(module.out_proj.bias)
    mixed: Tensor = torch.func.functional_call(module, plain, args, kwargs)[0]
    return mixed


_TABLE: dict[type[nn.Module], Callable[[Any, Arguments], list[ModuleRead]]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
    nn.RNN: _recurrent,
    nn.MultiheadAttention: _attention,
}
