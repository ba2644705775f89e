"""Augmentations of sound: waveforms (N, T) or (N, 1, T), spectrograms (N, F, T) or (N, 1, F, T)."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from lilliput.learning.augmenting.augmentation import Augmentation, Augmented, Form
from lilliput.learning.augmenting.drawing import each, uniform
from lilliput.learning.augmenting.input_forms import (
    is_sounds,
    is_spectrograms,
    is_waveforms,
    the_one,
    with_parts,
)

WAVEFORMS = "waveforms (N, T) or (N, 1, T)"
SPECTROGRAMS = "spectrograms (N, F, T) or (N, 1, F, T)"
_SPEC_AUGMENT = "Park et al. 2019, arXiv 1904.08779"
_SOUND = "Salamon and Bello 2016, arXiv 1608.04363"


class Gain(Augmentation):
    """Makes sounds louder or softer. Values are not clipped.

    Attributes:
        decibels: By at most so many, either way, 0 to 60.
    """

    name: ClassVar[str] = "gain"
    form: ClassVar[Form] = "audio"
    source: ClassVar[str] = _SOUND
    summary: ClassVar[str] = "make sounds louder or softer"

    decibels: float = Field(6.0, ge=0, le=60, json_schema_extra={"unit": "dB"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Each sound by a factor of its own."""
        key, waves = the_one(self.name, given.inputs, wanted=is_waveforms, told=WAVEFORMS)
        decibels = uniform(generator, (-self.decibels, self.decibels), like=waves)
        louder = waves * each(10 ** (decibels / 20), waves)
        return Augmented(with_parts(given.inputs, {key: louder}), given.targets)


class Shift(Augmentation):
    """Moves sounds in time; what comes in from outside is silence.

    Attributes:
        share: By at most this share of the length, either way, 0 to 0.9.
    """

    name: ClassVar[str] = "shift"
    form: ClassVar[Form] = "audio"
    source: ClassVar[str] = _SOUND
    summary: ClassVar[str] = "move sounds in time"

    share: float = Field(0.1, ge=0, le=0.9, json_schema_extra={"unit": "of the length"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Exact: each sound by a whole number of samples."""
        key, waves = the_one(self.name, given.inputs, wanted=is_waveforms, told=WAVEFORMS)
        length = waves.shape[-1]
        share = uniform(generator, (-self.share, self.share), like=waves.float())
        places = torch.arange(length, device=waves.device) - (share * length).round()[:, None]
        inside = (places >= 0) & (places < length)  # (N, T)
        flat = waves.reshape(len(waves), length)
        moved = flat.gather(1, places.long().clamp(0, length - 1)).where(inside, 0)
        changed = {key: moved.reshape(waves.shape)}
        return Augmented(with_parts(given.inputs, changed), given.targets)


class MaskTime(Augmentation):
    """Silences stretches of time: they become the example's mean.

    Attributes:
        count: Stretches of each example, 1 to 10; they may overlap.
        share: Longest stretch, as a share of the length, 0 to 1.
    """

    name: ClassVar[str] = "mask_time"
    form: ClassVar[Form] = "audio"
    source: ClassVar[str] = _SPEC_AUGMENT
    summary: ClassVar[str] = "silence stretches of time"

    count: int = Field(2, ge=1, le=10, json_schema_extra={"unit": "stretches"})
    share: float = Field(0.1, ge=0, le=1, json_schema_extra={"unit": "of the length"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Waveforms and spectrograms, time last."""
        told = f"{WAVEFORMS}, {SPECTROGRAMS}"
        key, sounds = the_one(self.name, given.inputs, wanted=is_sounds, told=told)
        struck = _stretches(self, sounds, generator, size=sounds.shape[-1])  # (N, T)
        masked = _silenced(sounds, struck.reshape(len(sounds), *[1] * (sounds.ndim - 2), -1))
        return Augmented(with_parts(given.inputs, {key: masked}), given.targets)


class MaskFrequency(Augmentation):
    """Silences bands of frequencies: they become the example's mean.

    Attributes:
        count: Bands of each example, 1 to 10; they may overlap.
        share: Widest band, as a share of all frequencies, 0 to 1.
    """

    name: ClassVar[str] = "mask_frequency"
    form: ClassVar[Form] = "audio"
    source: ClassVar[str] = _SPEC_AUGMENT
    summary: ClassVar[str] = "silence bands of frequencies"

    count: int = Field(2, ge=1, le=10, json_schema_extra={"unit": "bands"})
    share: float = Field(0.15, ge=0, le=1, json_schema_extra={"unit": "of the frequencies"})

    def augment(self, given: Augmented, generator: torch.Generator) -> Augmented:
        """Spectrograms, frequencies before time."""
        key, sounds = the_one(self.name, given.inputs, wanted=is_spectrograms, told=SPECTROGRAMS)
        struck = _stretches(self, sounds, generator, size=sounds.shape[-2])  # (N, F)
        masked = _silenced(sounds, struck.reshape(len(sounds), *[1] * (sounds.ndim - 3), -1, 1))
        return Augmented(with_parts(given.inputs, {key: masked}), given.targets)


def _stretches(
    mask: MaskTime | MaskFrequency, sounds: Tensor, generator: torch.Generator, *, size: int
) -> Tensor:
    """Places inside one of each example's stretches, (N, size) bool."""
    places = torch.arange(size, device=sounds.device)
    struck = torch.zeros(len(sounds), size, dtype=torch.bool, device=sounds.device)
    like = sounds.float()
    for _ in range(mask.count):
        length = uniform(generator, (0, mask.share * size + 1), like=like).floor().clamp(max=size)
        first = (uniform(generator, (0, 1), like=like) * (size - length + 1)).floor()
        struck |= (places >= first[:, None]) & (places < (first + length)[:, None])
    return struck


def _silenced(sounds: Tensor, struck: Tensor) -> Tensor:
    means = sounds.mean(tuple(range(1, sounds.ndim)), keepdim=True)  # (N, 1, ...)
    return means.where(struck, sounds)
