"""Units as several copies that together do what one did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, fx

from lilliput.shapes.atoms import Axis
from lilliput.shapes.flow import module_of, named_arguments, operator_name
from lilliput.shapes.resize import Kept

Fill = Literal["copy", "zero"]
_EXTREMES = {"amax", "amin"}  # of copies: the same
_MEANS = {"layer_norm", "rms_norm", "group_norm", "mean"}  # the same if all are copied alike
_SPREADS = {"var", "std", "var_mean", "std_mean"}


@dataclass(frozen=True)
class Filling:
    """What the weights of new units are.

    Attributes:
        fill: ``copy``: a unit and its copies share what is read of them in equal parts; ``zero``:
            nothing is read of the copies yet.
        noise: Standard deviation of the noise that makes copies differ, over that of the weight.
            For ``copy`` it is laid on what reads them and sums to zero over the copies of a unit,
            so that the function stays; for ``zero`` on what makes them.
        seed: Of the noise.
    """

    fill: Fill = "copy"
    noise: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Copies(Kept):
    """Units that are there several times.

    Every copy holds what its unit held, so weights that are summed over are shared out among the
    copies (Net2WiderNet, arXiv 1511.05641; for transformers bert2BERT, arXiv 2110.07143).

    Attributes:
        filling: What the weights of the copies are.
    """

    filling: Filling = field(default_factory=Filling)

    def weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters and buffers of another size, by name."""
        found = super().weights(state)
        readers = _atoms(self.shape.flow.readers)
        makers = _atoms(self.shape.flow.makers)
        generator = torch.Generator().manual_seed(self.filling.seed)
        for name in sorted(found):
            axes = self.shape.flow.sources[name].axes
            shared = np.setdiff1d(readers, makers)
            read = [place for place in self._copied(axes) if np.isin(axes[place], shared).any()]
            made = [place for place in self._copied(axes) if np.isin(axes[place], makers).any()]
            for place in read:
                found[name] = self._share_out(found[name], axes[place], place)
            noised = (read if self.filling.fill == "copy" else self._unmixed(axes, made))[:1]
            for place in noised:
                found[name] = self._noised(found[name], axes[place], place, generator=generator)
        return found

    def losses(self) -> list[str]:
        """Why the copies cannot do together what one unit did; empty where they can."""
        found = []
        for node, axis in self.shape.flow.mixers:
            times, name = self.times(axis), operator_name(node)
            alike = _is_mean(node) and bool((times == times[0]).all())
            if self.same(axis) or name in _EXTREMES or alike:
                continue
            how = "only a whole factor keeps its mean" if _is_mean(node) else "copies change it"
            found.append(f"{name} in {module_of(node) or 'the model'} mixes the units: {how}")
        both = np.intersect1d(_atoms(self.shape.flow.readers), _atoms(self.shape.flow.makers))
        for name, source in self.shape.flow.sources.items():
            if any(np.isin(source.axes[place], both).any() for place in self._copied(source.axes)):
                found.append(f"{name} is looked up and multiplied with, so it cannot be shared out")
        return list(dict.fromkeys(found))

    def _copied(self, axes: list[Axis]) -> list[int]:
        return [place for place, axis in enumerate(axes) if self.times(axis).max(initial=0) > 1]

    def _unmixed(self, axes: list[Axis], places: list[int]) -> list[int]:
        """Axes whose units no operator mixes: what is read of them counts alone."""
        units = self.shape.settled.units
        mixed = np.concatenate(
            [np.zeros(0, np.int64), *(units(a) for _, a in self.shape.flow.mixers)]
        )
        return [place for place in places if not np.isin(units(axes[place]), mixed).any()]

    def _share_out(self, tensor: Tensor, axis: Axis, place: int) -> Tensor:
        """What is read of a unit, over its copies."""
        origins, times = self.origins(axis), self.times(axis)
        first = _ranks(origins) == 0
        share = first if self.filling.fill == "zero" else 1 / times[origins]
        return tensor * _along(share, tensor, place)

    def _noised(
        self, tensor: Tensor, axis: Axis, place: int, *, generator: torch.Generator
    ) -> Tensor:
        """Noise on copies; where they are read, as much of it in sum as without."""
        if not self.filling.noise:
            return tensor
        origins = self.origins(axis)
        noise = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        if self.filling.fill == "zero":
            noise = noise * _along(_ranks(origins) > 0, tensor, place)
        else:
            index = torch.from_numpy(origins)
            sums = noise.new_zeros(*tensor.shape[:place], len(axis), *tensor.shape[place + 1 :])
            sums = sums.index_add(place, index, noise)
            means = sums / _along(np.maximum(self.times(axis), 1), sums, place)
            noise = noise - means.index_select(place, index)
        return tensor + self.filling.noise * tensor.std(unbiased=False) * noise


def _is_mean(node: fx.Node) -> bool:
    """Whether a reduction gives the same if all units are copied alike."""
    name, given = operator_name(node), named_arguments(node)
    if name in _SPREADS:  # as means of squares only if they divide by the number of units
        return not given.get("unbiased", given.get("correction", 1))
    return name in _MEANS


def _atoms(axes: list[Axis]) -> Axis:
    atoms = np.unique(np.concatenate([np.zeros(0, np.int64), *axes]))
    return atoms[atoms >= 0]


def _ranks(origins: Axis) -> Axis:
    """Which copy each new position is: 0 for the first."""
    order = np.argsort(origins, kind="stable")
    new = np.diff(origins[order], prepend=-1) != 0
    starts = np.maximum.accumulate(np.where(new, np.arange(len(origins)), 0))
    ranks = np.empty(len(origins), np.int64)
    ranks[order] = np.arange(len(origins)) - starts
    return ranks


def _along(values: object, tensor: Tensor, place: int) -> Tensor:
    """One value per position of an axis, so that it multiplies a tensor."""
    shape = [1] * tensor.ndim
    shape[place] = -1
    return torch.as_tensor(np.asarray(values)).to(tensor.dtype).reshape(shape)
