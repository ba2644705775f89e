"""Replaces activations by cheaper ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lilliput.shapes.flow import module_of, operator_name
from lilliput.shapes.graphmodel import graph_model
from lilliput.shapes.proving import Altered, Build, with_modules
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.residuals import calls
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.replacing import Original, chosen, listed

Form = Literal["tanh", "relu", "hardswish"]
_CHEAPER: dict[str, Form] = {"gelu": "tanh", "silu": "hardswish", "mish": "hardswish"}
_OPERATORS: dict[Form, Any] = {
    "tanh": torch.ops.aten.gelu.default,
    "relu": torch.ops.aten.relu.default,
    "hardswish": torch.ops.aten.hardswish.default,
}
_MODULES: dict[Form, Callable[[], nn.Module]] = {
    "tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
    "hardswish": nn.Hardswish,
}


class ReplaceActivation(Fields):
    """Replaces GELU, SiLU and Mish, in modules or in code, by activations that cost less.

    Attributes:
        to: ``cheaper`` (GELU by its tanh form, SiLU and Mish by hard-swish), or one for all:
            ``tanh`` (GELU only), ``relu`` or ``hardswish``.
    """

    name: ClassVar[str] = "replace_activation"
    family: ClassVar[Family] = "replace"
    source: ClassVar[str] = "Howard et al. 2019, arXiv 1905.02244; Hendrycks 2016, arXiv 1606.08415"
    summary: ClassVar[str] = "replace activations by cheaper ones"

    to: Literal["cheaper", "tanh", "relu", "hardswish"] = "cheaper"

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy with the named activations replaced, with its proof and what it changes."""
        original = Original.of(model, inputs, batches=batches)
        every = _activations(original.shape)
        reasons = {name: why for name, one in every.items() if (why := self._refusal(one))}
        able = {name: one for name, one in every.items() if name not in reasons}
        found = chosen(where, able, reasons=reasons, kind="activation")
        forms = {node.name: self._form(one) for one in found.values() for node in one.nodes}
        instead = {name: _function(form) for name, form in forms.items()}
        equal = Altered(model, original.shape.captured.graph, instead)
        builds: list[Build] = [("graph", lambda: _graph(original, forms))]
        if all(one.module for one in found.values()):
            modules = {name: _MODULES[self._form(one)]() for name, one in found.items()}
            builds.insert(0, ("class", lambda: with_modules(model, modules)))
        return original.proved(builds, equal=equal, what=listed(found))

    def _form(self, one: "_Activation") -> Form:
        return _CHEAPER[one.kind] if self.to == "cheaper" else self.to

    def _refusal(self, one: "_Activation") -> str:
        if self._form(one) != "tanh":
            return ""
        if one.kind != "gelu":
            return f"{one.kind} has no tanh form"
        already = any(node.kwargs.get("approximate") == "tanh" for node in one.nodes)
        return "it has the tanh form already" if already else ""


@dataclass(frozen=True)
class _Activation:
    """An activation: its operator, the nodes that call it, whether it is a module of its own."""

    kind: str
    nodes: tuple[fx.Node, ...]
    module: bool


def _activations(shape: Shape) -> dict[str, _Activation]:
    """By module; those in code by the module that calls them, ``#2`` for its second one."""
    graph = shape.captured.graph.graph
    alone: dict[fx.Node, str] = {}
    for call in calls(graph):
        working = [node for node in call.nodes if node.users]
        if len(working) == 1:
            alone.setdefault(working[0], call.path)
    found: dict[str, _Activation] = {}
    for node in graph.nodes:
        kind = operator_name(node).rstrip("_") if node.op == "call_function" else ""
        if kind not in _CHEAPER:
            continue
        if node in alone:
            before = found.get(alone[node])
            nodes = (*(before.nodes if before else ()), node)
            found[alone[node]] = _Activation(kind, nodes, True)
            continue
        place = name = module_of(node) or kind
        number = 1
        while name in found:
            number += 1
            name = f"{place}#{number}"
        found[name] = _Activation(kind, (node,), False)
    return found


def _function(form: Form) -> Callable[..., Tensor]:
    if form == "tanh":
        return lambda x, *_: functional.gelu(x, approximate="tanh")
    return lambda x, *_: functional.relu(x) if form == "relu" else functional.hardswish(x)


def _graph(original: Original, forms: dict[str, Form]) -> nn.Module:
    """The captured graph with other operators."""
    model = graph_model(original.shape.captured.graph, Kept(original.shape, {}))
    for node in model.graph.nodes:
        form = forms.get(node.name)
        if form is not None:
            node.target, node.args = _OPERATORS[form], node.args[:1]
            node.kwargs = {"approximate": "tanh"} if form == "tanh" else {}
    return model.train(original.model.training)
