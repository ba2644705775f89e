"""Encodings as constraints on a model that learns, and back.

What was removed, shared or rounded stays so while the rest adapts.
"""

import copy
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from lilliput.learning.constraints.constraint import Constraint, Learn, constrained
from lilliput.learning.constraints.held import Held, short_type
from lilliput.learning.constraints.in_factors import InFactors
from lilliput.learning.constraints.on_grids import OnGrid, OnGroups
from lilliput.learning.constraints.on_values import OnValues
from lilliput.learning.constraints.rounded_inputs import Rounding, round_inputs
from lilliput.model.encodings import (
    Codebook,
    Dense,
    Encoding,
    Grid,
    Grouped,
    Inputs,
    LowRank,
    Masked,
    parts_of,
)


class Constrained:
    """A copy of a model whose weights are held to encodings while they learn.

    Args:
        model: It is not changed.
        encodings: By parameter; others are free.
        learn: ``all`` weights under their constraints, or only ``scales``: steps, shared values,
            and parameters with one axis (biases, norms), while codes stand still.
        sparse: Parameters of which what is 0 stays 0, although their encoding has no mask.
        only: Parameters that may change; None for all.
        together: As for `OnGrid`.

    Attributes:
        model: The copy.
    """

    def __init__(
        self,
        model: nn.Module,
        encodings: Mapping[str, Encoding],
        *,
        learn: Learn = "all",
        sparse: Set[str] = frozenset(),
        only: Set[str] | None = None,
        together: bool = False,
    ) -> None:
        self.model = copy.deepcopy(model)
        self._original = {name: p.detach() for name, p in model.named_parameters()}
        self._roundings: dict[Inputs, Rounding] = {}
        self._shared: dict[str, tuple[str, ...]] = {}
        free = self._original.keys() if only is None else only
        for name, parameter in self.model.named_parameters():
            learns = parameter.is_floating_point() and (learn == "all" or parameter.ndim <= 1)
            parameter.requires_grad_(learns and name in free)
        ties = _ties(self.model)
        for names in _of_one_weight({name: e for name, e in encodings.items() if name in free}):
            encoding = encodings[names[0]]
            places = [place for name in names for place in ties[name]]
            if len(names) == 1 and _is_free(encoding, places[0][0]):
                _fill(places[0], encoding)
                continue
            sparsely = not sparse.isdisjoint(names)
            found = constraint_of(encoding, learn=learn, sparse=sparsely, together=together)
            _hold(places, found)
            self._shared[names[0]] = names
            for name in names:
                self._round(name, encoding)

    def _round(self, name: str, encoding: Encoding) -> None:
        if isinstance(encoding, Grid) and encoding.inputs is not None:
            rounding = self._roundings.setdefault(encoding.inputs, Rounding(encoding.inputs))
            layer = self.model.get_submodule(name.rpartition(".")[0])
            if not round_inputs(layer, encoding, rounding=rounding):
                del self._roundings[encoding.inputs]

    def encodings(self, model: nn.Module | None = None) -> dict[str, Encoding]:
        """What the weights of the copy are by now; `Dense` for other parameters that changed.

        Args:
            model: The copy in another state, e.g. the average of its weights; None: the copy.
        """
        model = self.model if model is None else model
        with torch.no_grad():
            held = {
                name: self._rounded(constraint.encoding(*latents))
                for name, (constraint, latents) in constrained(model).items()
            }
        found = {name: held[first] for first in held for name in self._shared[first]}
        for name, parameter in model.named_parameters():
            before = self._original.get(name)
            if before is not None and not torch.equal(parameter.detach(), before):
                found[name] = Dense(parameter.detach().clone())
        return found

    def _rounded(self, encoding: Encoding) -> Encoding:
        """With the grids of inputs and results as they are by now."""
        if not isinstance(encoding, Grid):
            return encoding
        now = {first: rounding.inputs for first, rounding in self._roundings.items()}
        return replace(
            encoding,
            inputs=now.get(encoding.inputs, encoding.inputs) if encoding.inputs else None,
            results=now.get(encoding.results, encoding.results) if encoding.results else None,
        )


def constraint_of(
    encoding: Encoding, *, learn: Learn, sparse: bool = False, together: bool = False
) -> Constraint:
    """The constraint that holds a weight to an encoding. See `Constrained`."""
    if isinstance(encoding, Grid):
        return OnGrid(encoding, learn=learn, sparse=sparse, together=together)
    if isinstance(encoding, Grouped):
        return OnGroups(encoding, learn=learn, sparse=sparse)
    if isinstance(encoding, Codebook):
        return OnValues(encoding, learn=learn, sparse=sparse)
    if isinstance(encoding, LowRank):
        parts = [constraint_of(part, learn=learn, sparse=sparse) for part in encoding.factors]
        return InFactors(encoding, parts, learn=learn)
    return Held(encoding, learn=learn)


def _ties(model: nn.Module) -> dict[str, tuple[tuple[nn.Module, str], ...]]:
    """First name of each parameter -> all places where it is registered."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    first: dict[int, str] = {}
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            first.setdefault(id(parameter), name)
            places.setdefault(id(parameter), []).append((module, leaf))
    return {first[key]: tuple(found) for key, found in places.items()}


def _of_one_weight(encodings: Mapping[str, Encoding]) -> list[tuple[str, ...]]:
    """Names of parameters; of those that an encoding was made for together, all at once."""
    groups: dict[int, list[str]] = {}
    for name, encoding in encodings.items():
        first = parts_of(encoding)[0]
        data = first.weight if isinstance(first, Dense | Masked) else first.codes
        groups.setdefault(data.data_ptr() or id(encoding), []).append(name)
    return [tuple(names) for names in groups.values()]


def _is_free(encoding: Encoding, module: nn.Module) -> bool:
    """Whether nothing holds a weight: one of full precision, or a BatchNorm's, which is folded."""
    if not isinstance(encoding, Dense):
        return False
    return isinstance(module, _BatchNorm) or short_type(encoding.weight) is None


@torch.no_grad()
def _fill(place: tuple[nn.Module, str], encoding: Encoding) -> None:
    """The encoding's value, in the parameter itself."""
    module, leaf = place
    module.get_parameter(leaf).copy_(encoding.decode())


def _hold(places: Sequence[tuple[nn.Module, str]], constraint: Constraint) -> None:
    """One constraint for all places of one weight."""
    (module, leaf), *others = places
    parametrize.register_parametrization(module, leaf, constraint)
    held: Any = module.parametrizations[leaf]  # type: ignore[index]
    for latent in held.parameters(recurse=False):
        latent.requires_grad_(constraint.free)
    for other, place in others:
        parametrize.register_parametrization(other, place, constraint)
        other.parametrizations[place] = held  # type: ignore[index, operator]
