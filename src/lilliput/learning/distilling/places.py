"""Which places of a teacher belong to which of a student: named, or found."""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from lilliput.batches import Inputs
from lilliput.errors import CaptureError, TaskError, TrainingError
from lilliput.learning.distilling.attention import Attention, attention_in
from lilliput.learning.distilling.comparing import Imitation, Pairs
from lilliput.learning.distilling.features import INPUT, at_places, outputs_of
from lilliput.learning.distilling.imitation import Blocks, Features
from lilliput.learning.reach import head_of
from lilliput.model.capture import capture
from lilliput.outputs import pick_output
from lilliput.shapes.blocks import blocks_of, outermost
from lilliput.task import Task

_VALUES = re.compile(r"(.*[._])?(v|value|values|v_proj|v_lin|to_v)", re.IGNORECASE)


class Ends:
    """A teacher and a student, and what their modules give.

    Args:
        task: How they are called.
        teacher: Its places come first in a pair.
        student: Its places come second.
    """

    def __init__(self, task: Task, *, teacher: nn.Module, student: nn.Module) -> None:
        self.task, self.models = task, (teacher, student)
        self.inputs = task.sample(2)
        self.seen = tuple(outputs_of(task, one, inputs=self.inputs) for one in self.models)

    def placed(self, loss: Imitation) -> Imitation:
        """The loss with its pairs: those it names, or else those that are found.

        Raises:
            TrainingError: There is no such module (the nearest is named), or nothing is found.
        """
        for pair in loss.pairs:
            for place, model, whose in zip(pair, self.models, ("teacher", "student"), strict=True):
                _check_named(place, model, whose)
        if isinstance(loss, Attention):
            return self._sighted(loss)
        if isinstance(loss, Features | Blocks) and not loss.pairs:
            return replace(loss, pairs=self.hidden())
        return loss

    def hidden(self) -> Pairs:
        """Stages of equal names, else matched evenly, else what the heads are given."""
        stages = [_stages(*both, self.inputs) for both in zip(self.models, self.seen, strict=True)]
        found = matched(*stages)
        if found and all(self._axes(pair) for pair in found):
            return found
        teacher, student = (head_of(model, self.inputs) + INPUT for model in self.models)
        return ((teacher, student),)

    def _axes(self, pair: tuple[str, str]) -> int:
        """How many axes both have; 0 where they differ."""
        axes = {pick_output(seen[place]).ndim for seen, place in zip(self.seen, pair, strict=True)}
        return axes.pop() if len(axes) == 1 else 0

    def _sighted(self, loss: Attention) -> Attention:
        if loss.pairs:
            return loss if loss.sight != "auto" else replace(loss, sight=self._sight(loss.pairs))
        if loss.sight in ("auto", "probabilities"):
            found = matched(_gives_attention(self, 0), _gives_attention(self, 1))
            if found:
                return replace(loss, sight="probabilities", pairs=found)
        if loss.sight in ("auto", "values"):
            found = matched(_values(self.seen[0]), _values(self.seen[1]))
            if found:
                return replace(loss, sight="values", pairs=found)
        if loss.sight in ("auto", "maps"):
            found = tuple(pair for pair in self.hidden() if self._convolutional(pair))
            if found:
                return replace(loss, sight="maps", pairs=found)
        raise TrainingError(
            "no attention was found that both models have",
            "transformers give it with attn_implementation='eager' and no dropout; or name "
            "value layers or convolutions: pairs=((teacher's, student's), ...)",
        )

    def _convolutional(self, pair: tuple[str, str]) -> bool:
        return not pair[0].endswith(INPUT) and self._axes(pair) >= 4

    def _sight(self, pairs: Pairs) -> Any:
        raws = [
            at_places(self.task, model, inputs=self.inputs, places=places)
            for model, places in zip(self.models, zip(*pairs, strict=True), strict=True)
        ]
        firsts = [next(iter(raw.values())) for raw in raws]
        if all(attention_in(raw) is not None for raw in firsts):
            return "probabilities"
        return "values" if pick_output(firsts[0]).ndim == 3 else "maps"


def matched(teacher: Sequence[str], student: Sequence[str]) -> Pairs:
    """Places of equal names where both have the same ones, else in order and evenly, last to last.

    Six places of a student and twelve of its teacher: the second, the fourth, ... of the teacher.
    """
    if set(teacher) == set(student):
        return tuple((name, name) for name in teacher)
    count = min(len(teacher), len(student))
    return tuple(
        (teacher[_evenly(place, count, len(teacher))], student[_evenly(place, count, len(student))])
        for place in range(count)
    )


def _evenly(place: int, count: int, total: int) -> int:
    return round((place + 1) * total / count) - 1


def _stages(model: nn.Module, seen: dict[str, Any], inputs: Inputs) -> list[str]:
    """Blocks of a model's graph that are modules, else the modules it is put together from."""
    try:
        blocks = outermost(blocks_of(capture(model, inputs)))
    except (CaptureError, TaskError):
        blocks = []
    found = [block.name for block in blocks if block.module and _features(seen.get(block.name))]
    if found:
        return found
    head = head_of(model, inputs)
    return [
        name
        for name in _parts(model, "", seen)
        if _features(seen.get(name)) and name != head and not head.startswith(f"{name}.")
    ]


def _parts(model: nn.Module, name: str, seen: dict[str, Any]) -> list[str]:
    """Children with weights; those of a child that is not called, or is the only one, instead."""
    children = [
        (f"{name}.{leaf}" if name else leaf, child)
        for leaf, child in model.named_children()
        if any(True for _ in child.parameters())
    ]
    found = []
    for path, child in children:
        inner = _parts(child, path, seen) if len(children) == 1 or path not in seen else []
        found += inner or [path]
    return found


def _features(raw: Any) -> bool:
    value = raw[0] if isinstance(raw, tuple | list) and raw else raw
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def _gives_attention(ends: Ends, end: int) -> list[str]:
    """Innermost modules that give probabilities of attention, and drop none of them."""
    modules = dict(ends.models[end].named_modules())
    names = [name for name, raw in ends.seen[end].items() if attention_in(raw) is not None]
    return [
        name
        for name in names
        if not any(other.startswith(f"{name}.") for other in names)
        and not (end == 1 and _drops(modules[name]))
    ]


def _drops(module: nn.Module) -> bool:
    inner = [one.p for one in module.modules() if isinstance(one, nn.Dropout)]
    return any(inner) or (isinstance(module, nn.MultiheadAttention) and module.dropout > 0)


def _values(seen: dict[str, Any]) -> list[str]:
    return [name for name, raw in seen.items() if _VALUES.fullmatch(name) and _sequence(raw)]


def _sequence(raw: Any) -> bool:
    return isinstance(raw, Tensor) and raw.ndim == 3


def _check_named(place: str, model: nn.Module, whose: str) -> None:
    names = [name for name, _ in model.named_modules() if name]
    if place.removesuffix(INPUT) not in names:
        close = get_close_matches(place.removesuffix(INPUT), names, n=1, cutoff=0.0)
        raise TrainingError(
            f"the {whose} has no module {place.removesuffix(INPUT)!r}",
            f"the nearest is {close[0]}" if close else f"the {whose} has no modules inside",
        )
