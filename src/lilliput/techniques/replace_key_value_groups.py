"""Replaces attention by one with fewer heads of keys and values."""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from lilliput.shapes.attention import Attention, attentions
from lilliput.shapes.proving import Build, with_modules
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.standins import SharedHeads
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.replacing import Original, chosen, listed


class ReplaceKeyValueGroups(Fields):
    """Pools heads of keys and values that lie beside each other into one: grouped-query attention.

    Weights of the pooled heads are means. A model that counts its groups (``num_key_value_groups``)
    is given other counts, so that its cache shrinks too; elsewhere the projections are smaller and
    hand each head to several queries. Both are proved against the original with pooled weights.

    Attributes:
        pooled: How many heads become one, 2 to 128; it divides the heads of keys and values.
    """

    name: ClassVar[str] = "replace_key_value_groups"
    family: ClassVar[Family] = "replace"
    source: ClassVar[str] = "Ainslie et al. 2023, arXiv 2305.13245"
    summary: ClassVar[str] = "pool heads of keys and values into fewer groups"

    pooled: int = Field(2, ge=2, le=128, json_schema_extra={"unit": "heads"})

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A copy with fewer key-value groups in the named attentions, with its proof."""
        original = Original.of(model, inputs, batches=batches)
        every, reasons = attentions(model, original.shape)
        refused = {
            name: f"{self.pooled} does not divide its {one.heads} heads of keys and values"
            for name, one in every.items()
            if one.heads % self.pooled
        }
        able = {name: one for name, one in every.items() if name not in refused}
        found = chosen(where, able, reasons=reasons | refused, kind="attention")
        names = [path for one in found.values() for path in (one.key, one.value)]
        sizes = {path: one.size for one in found.values() for path in (one.key, one.value)}
        weights = {
            f"{path}.{leaf}": self._repeated(parameter.detach(), sizes[path])
            for path in names
            for leaf, parameter in model.get_submodule(path).named_parameters()
        }
        linears = {path: self._linear(model.get_submodule(path), sizes[path]) for path in names}
        shared: dict[str, nn.Module] = {
            path: SharedHeads(linear, times=self.pooled, size=sizes[path])
            for path, linear in linears.items()
        }
        whole = len(found) == len(every) + len(reasons)
        builds: list[Build] = [
            ("class", lambda: self._counted(with_modules(model, linears), found, whole=whole)),
            ("class", lambda: with_modules(model, shared)),
        ]
        return original.proved(builds, equal=original.weighted(weights), what=listed(found))

    def _means(self, rows: Tensor, size: int) -> Tensor:
        """(groups, size, ...): means over heads that lie beside each other."""
        return rows.reshape(-1, self.pooled, size, *rows.shape[1:]).mean(1)

    def _repeated(self, rows: Tensor, size: int) -> Tensor:
        """Of the shape of the rows: each head is the mean of its group."""
        return self._means(rows, size).repeat_interleave(self.pooled, 0).reshape(rows.shape)

    def _linear(self, layer: nn.Module, size: int) -> nn.Linear:
        """The projection of the means."""
        parameters = dict(layer.named_parameters())
        weight = self._means(parameters["weight"].detach(), size).flatten(0, 1)
        smaller = nn.Linear(weight.shape[1], len(weight), bias="bias" in parameters)
        smaller.weight = nn.Parameter(weight)
        if "bias" in parameters:
            smaller.bias = nn.Parameter(self._means(parameters["bias"].detach(), size).flatten())
        return smaller

    def _counted(self, model: nn.Module, found: dict[str, Attention], *, whole: bool) -> nn.Module:
        """Numbers of groups where the attention's own module, and its settings, hold them."""
        with torch.no_grad():
            for name, one in found.items():
                module = model.get_submodule(name)
                _count(module, one, self.pooled)
                if whole and hasattr(module, "config"):
                    _count(module.config, one, self.pooled)
        return model


def _count(holder: Any, one: Attention, pooled: int) -> None:
    repeats = one.queries // one.heads
    for name, value in list(vars(holder).items()):
        if type(value) is not int:
            continue
        groups = "group" in name or "rep" in name
        if groups and value == repeats:
            setattr(holder, name, value * pooled)
        elif not groups and ("kv" in name or "key_value" in name) and value == one.heads:
            setattr(holder, name, value // pooled)
