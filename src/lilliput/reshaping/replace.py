"""`replace`: layers of a model by others, by a technique or by a rule of one's own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from lilliput.errors import PlanError, ShapeError
from lilliput.records import Step
from lilliput.shapes.proof import Reference
from lilliput.shapes.proving import with_modules
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import shape_of
from lilliput.techniques import TABLE, structural_from_step
from lilliput.techniques.answers import Answers
from lilliput.usercode import users_code

Rule = Callable[[str, nn.Module], nn.Module | None]
_PREFIX = "replace_"


def replace(model: nn.Module, inputs: Any, *, by: str | Rule, **options: Any) -> nn.Module:
    """A rebuilt copy of a model: `replaced` without its proof. Takes the same arguments."""
    return replaced(model, inputs, by=by, **options).model


def replaced(
    model: nn.Module,
    inputs: Any,
    *,
    by: str | Rule,
    names: Iterable[str] = (),
    calibration: Iterable[Any] | None = None,
    **settings: Any,
) -> Reshaped:
    """A copy of a model with layers replaced, with its proof. The model is left as it was.

    Args:
        model: Any module that can be captured.
        inputs: One example batch: tensor, tuple or mapping.
        by: A technique of the family ``replace``, without its prefix: ``depthwise``, ``stack``,
            ``norm``, ...; or a rule of your own, ``rule(name, module)``, which returns the module
            to be put in the place of one, or None. What it returns is not asked about again.
        names: Layers to replace; by default all that can be.
        calibration: Batches of inputs to fit and to judge by; by default `inputs` alone.
        **settings: The technique's fields.

    Returns:
        The copy. Of a rule the proof is that outputs have the same shapes and are finite at
        several sizes of inputs; how far they are from the original's is said in the notes.

    Raises:
        CaptureError: The model cannot be captured.
        PlanError: The technique or a setting is unknown, or a value is out of range.
        ShapeError: A layer does not exist or cannot be replaced, or the change could not be proved.
        TaskError: There are no calibration inputs, or the model or the rule does not run.
    """
    where = (names,) if isinstance(names, str) else tuple(names)
    if not isinstance(by, str):
        if settings:
            raise PlanError(f"a rule has no field {min(settings)!r}", "give a technique's name")
        return _by_rule(model, inputs, by, where=where, calibration=calibration)
    known = [kind.name for kind in TABLE if kind.family == "replace"]
    name = by if by in known else _PREFIX + by
    step = Step(technique=name, where=where, settings=settings)
    return structural_from_step(step).change(model, inputs, where=where, batches=calibration)


def _by_rule(
    model: nn.Module,
    inputs: Any,
    rule: Rule,
    *,
    where: tuple[str, ...],
    calibration: Iterable[Any] | None,
) -> Reshaped:
    shape = shape_of(model, inputs)
    answers = Answers.of(model, inputs, batches=calibration)
    modules = _asked(model, rule, where)
    if not modules:
        raise ShapeError("the rule replaces no module of the model", "it returned None for all")
    with torch.no_grad():
        changed = with_modules(model, modules)
        checks = Reference(model, Kept(shape, {}), inputs).compare(changed)
    wrong = [check for check in checks if not check.difference < float("inf")]
    if wrong:
        shapes = ", ".join(str(tuple(one)) for one in wrong[0].shapes)
        raise ShapeError(
            f"with {', '.join(modules)} replaced the outputs on inputs of {shapes} are not finite "
            "or have other shapes",
            "a module has to return what the one it replaces does",
        )
    equal = checks if all(check.equal for check in checks) else []
    note = answers.told(changed, f"with {', '.join(modules)} replaced")
    return Reshaped(changed, "class", tuple(equal), (note,))


def _asked(model: nn.Module, rule: Rule, where: tuple[str, ...]) -> dict[str, nn.Module]:
    """What the rule returns for each module, outer ones first, on a copy that it may keep."""
    known = dict(with_modules(model, {}).named_modules())
    for name in where:
        if name not in known:
            raise ShapeError(f"the model has no module {name!r}")
    found: dict[str, nn.Module] = {}
    for name in where or [name for name in known if name]:
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        with users_code(f"the rule on {name}"):
            new = rule(name, known[name])
        if new is not None and not isinstance(new, nn.Module):
            raise ShapeError(
                f"the rule returned {type(new).__name__} for {name}, not a module or None"
            )
        if new is not None:
            found[name] = new
    return found
