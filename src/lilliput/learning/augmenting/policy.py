"""A policy: which augmentations a batch goes through, as a value with a text form."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lilliput.batches import Inputs
from lilliput.described import checked, nearest
from lilliput.environment import package_version
from lilliput.errors import PlanError, TaskError
from lilliput.learning.augmenting.augment_audio import Gain, MaskFrequency, MaskTime, Shift
from lilliput.learning.augmenting.augment_colours import Brightness, Contrast, Hue, Saturation
from lilliput.learning.augmenting.augment_images import (
    Blur,
    Crop,
    Erase,
    Flip,
    FlipVertical,
    Rotate,
    Scale,
)
from lilliput.learning.augmenting.augment_mixing import CutMix, MixUp
from lilliput.learning.augmenting.augment_numbers import Noise
from lilliput.learning.augmenting.augment_randomly import RandAugment
from lilliput.learning.augmenting.augment_text import DropTokens, MaskTokens
from lilliput.learning.augmenting.augmentation import Augmentation, Augmented
from lilliput.learning.augmenting.input_forms import (
    IDS,
    Key,
    is_images,
    is_tokens,
    is_waveforms,
    parts,
)
from lilliput.task import DEFAULT_MASK, Task

AUGMENTATIONS: tuple[type[Augmentation], ...] = (
    *(Flip, FlipVertical, Crop, Rotate, Scale, Blur, Erase),
    *(Brightness, Contrast, Saturation, Hue, RandAugment),
    *(Gain, Shift, MaskTime, MaskFrequency),
    *(DropTokens, MaskTokens),
    *(Noise, MixUp, CutMix),
)
SAMPLES = 4000  # a row of fewer numbers without a channel may be anything, not just a sound
_EMPTY = "none"
_STEP = re.compile(r"\s*([^\s,()]+)\s*(?:\(([^()]*)\))?\s*(?:,|$)")
_FIELD = re.compile(r"\s*(\w+)\s*=\s*([^,=\s]+)\s*(?:,|$)")


@dataclass(frozen=True)
class Policy:
    """Augmentations, one after the other. Calling it changes a batch at random.

    The text form names them, with the fields that differ from their defaults:
    ``flip, crop(padding=2), mixup(alpha=0.4)``; ``none`` is the empty policy.

    Attributes:
        steps: In this order.
    """

    steps: tuple[Augmentation, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """The policy that a text names; `lilliput augmentations` lists what it may name.

        Raises:
            PlanError: It is no policy, an augmentation or a field is unknown, or a value is out of
                range; says what is allowed.
        """
        if text.strip() in ("", _EMPTY):
            return cls()
        steps, place = [], 0
        while place < len(text):
            found = _STEP.match(text, place)
            if found is None:
                raise PlanError(
                    f"{text!r} is no policy from {text[place:].strip()[:40]!r} on",
                    'write e.g. "flip, crop(padding=4)"',
                )
            steps.append(_step(found[1], found[2] or ""))
            place = found.end()
        return cls(tuple(steps))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return ", ".join(map(str, self.steps)) or _EMPTY

    def __call__(
        self, inputs: Inputs, targets: Any = None, *, generator: torch.Generator
    ) -> Augmented:
        """A changed batch; the one given stays as it is.

        Args:
            inputs: A tensor, a tuple or a dict of tensors, batch first.
            targets: Of the examples: a tensor, a list, or None.
            generator: All that is random comes from it: the same state gives the same bytes.

        Returns:
            Inputs of the same shapes and types, and targets with their weights.

        Raises:
            TaskError: The inputs have another form than a step takes.
            MissingExtraError: What a step is built on is not installed.
        """
        batch = Augmented.plain(inputs, targets)
        with torch.no_grad():
            for step in self.steps:
                batch = step.augment(batch, generator)
        return batch


def default_policy(task: Task) -> Policy:
    """What changes inputs of the task's form, and hardly ever their meaning.

    Images move by an eighth, turn by at most 10 degrees, get brighter and darker, and lose a box;
    sounds get louder, move and get noisy; texts lose tokens. Everything else: nothing.

    What an augmentation does to the answer is for the user to know: images are not mirrored
    here, because letters, digits and left hands are not; where that is no matter, add ``flip``.
    """
    inputs = task.sample(1)
    given = parts(inputs)
    images = [tensor for tensor in given.values() if is_images(tensor)]
    form = form_of(inputs)
    if form == "images":
        side = min(images[0].shape[2:])
        text = f"crop(padding={min(256, max(1, side // 8))}), rotate(degrees=10.0), "
        return Policy.parse(text + "brightness, contrast, erase(chance=0.25)")
    if form == "audio":
        return Policy.parse("gain, shift, noise(decibels=30.0)")
    return Policy.parse("drop_tokens" if form == "text" else _EMPTY)


def default_corruptions(inputs: Inputs, targets: Any = None) -> tuple[Augmentation, ...]:
    """What inputs of a form are put through to see how much a model stands; by their form.

    Images: noise, blur, contrast, rotation (after ImageNet-C, arXiv 1903.12261); sounds: noise,
    gain; texts: tokens dropped, tokens replaced. Nothing for others, and nothing that the batch
    cannot take or that is built on a package which is not installed.

    Args:
        inputs: A batch.
        targets: Of its examples, or None.
    """
    texts = {
        "images": "noise(decibels=10.0), blur, contrast(amount=0.5), rotate",
        "audio": "noise(decibels=10.0), gain(decibels=12.0)",
        "text": "drop_tokens(rate=0.15), mask_tokens(rate=0.15)",
    }
    steps = Policy.parse(texts.get(form_of(inputs), _EMPTY)).steps
    return tuple(
        step
        for step in steps
        if not step.needs or package_version(step.needs) is not None
        if _takes(step, inputs, targets)
    )


def form_of(inputs: Inputs) -> str:
    """``images``, ``audio``, ``text``; "" where the form is none of these, or not sure.

    A sound is (N, 1, T), or (N, T) with many numbers: a row of fewer may be a table's. Whole
    numbers are text where there is an attention mask or the name ``input_ids``, else categories.
    """
    given = parts(inputs)
    if sum(is_images(tensor) for tensor in given.values()) == 1:
        return "images"
    if IDS in given or (DEFAULT_MASK in given and any(map(is_tokens, _beside_mask(given)))):
        return "text"
    waves = [tensor for tensor in given.values() if is_waveforms(tensor)]
    if len(waves) == 1 and (waves[0].ndim == 3 or waves[0].shape[1] >= SAMPLES):
        return "audio"
    return ""


def _beside_mask(given: dict[Key, Tensor]) -> list[Tensor]:
    return [tensor for key, tensor in given.items() if key != DEFAULT_MASK]


def _takes(step: Augmentation, inputs: Inputs, targets: Any) -> bool:
    try:
        step.augment(Augmented.plain(inputs, targets), torch.Generator())
    except TaskError:
        return False
    return True


def _step(name: str, fields: str) -> Augmentation:
    known = {kind.name: kind for kind in AUGMENTATIONS}
    if name not in known:
        raise PlanError(
            f"unknown augmentation {name!r}",
            f"{nearest(name, known)}known are {', '.join(sorted(known))}",
        )
    return checked(known[name], name, settings=_fields(name, fields), refused=PlanError)


def _fields(name: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place = 0
    while text[place:].strip():
        field = _FIELD.match(text, place)
        if field is None or field[1] in found:
            raise PlanError(
                f"{name}({text}): {text[place:].strip()!r} is not a field and its value",
                f'write e.g. "{name}(field=1)", each field once',
            )
        found[field[1]] = _value(field[2])
        place = field.end()
    return found


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
