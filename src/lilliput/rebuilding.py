"""An instance of a user's class takes another shape, and what that takes."""

import copy
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lilliput.edits import Edits, ModuleSpec, Value
from lilliput.errors import CheckpointError

TRUSTED = ("torch.nn.", "lilliput.")
CONFIGURATION = "config"  # of Hugging Face's modules: an object whose plain attributes count too


def edits_between(before: nn.Module, after: nn.Module) -> Edits | None:
    """What has to be done to `before` to make it `after`; None where that is no plain data.

    Args:
        before: An instance of the user's class.
        after: A changed copy of it.
    """
    old, new = _modules(before), _modules(after)
    built = _outermost(name for name in new if type(new[name]) is not type(old.get(name)))
    gone = _outermost(name for name in old if name not in new and not _inside(name, built))
    specs = {name: _spec(new[name], old) for name in built}
    if "" in built or any(spec is None for spec in specs.values()):
        return None
    sizes = _unsaved(before)
    if any(sizes.get(name, size) != size for name, size in _unsaved(after).items()):
        return None
    found = {name: spec for name, spec in specs.items() if spec is not None}
    twins = {name: name for name in new if name in old and not _inside(name, built)}
    for name, spec in found.items():
        twins |= _twins(spec, name, new)
    attributes = {name: _changed(old[twin], new[name]) for name, twin in twins.items()}
    return Edits(
        attributes={name: changes for name, changes in attributes.items() if changes},
        modules=found,
        removed=tuple(gone),
    )


def apply_edits(model: nn.Module, edits: Edits, *, state: dict[str, Tensor]) -> None:
    """Changes an instance of the user's class in place, with room for the weights of `state`.

    Args:
        model: A fresh instance.
        edits: What to change.
        state: The weights that will be loaded: their shapes count.

    Raises:
        CheckpointError: The instance has no such module, or a class is neither torch's nor ours.
    """
    before = _modules(model)
    for name in edits.removed:
        owner, _, leaf = name.rpartition(".")
        delattr(_found(model, owner), leaf)
    for name, spec in edits.modules.items():
        owner, _, leaf = name.rpartition(".")
        setattr(_found(model, owner), leaf, _build(spec, f"{name}.", state, before))
    for name, changes in edits.attributes.items():
        module = _found(model, name)
        for attribute, value in changes.items():
            part, _, leaf = attribute.rpartition(".")
            holder = getattr(module, part) if part == CONFIGURATION else module
            tuples = isinstance(value, list) and isinstance(getattr(holder, leaf, ()), tuple)
            setattr(holder, leaf, tuple(value) if tuples else value)  # type: ignore[arg-type]
    _make_room(model, state)


def _make_room(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Parameters and buffers of the shapes that come; tied ones stay tied."""
    made: dict[int, nn.Parameter] = {}
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        module = _found(model, owner)
        old = getattr(module, leaf, None)
        if not isinstance(old, Tensor) or old.shape == value.shape:
            continue
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(torch.empty_like(value), requires_grad=old.requires_grad)
            setattr(module, leaf, made.setdefault(id(old), new))
        else:
            module.register_buffer(leaf, torch.empty_like(value))


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    return dict(model.named_modules(remove_duplicate=False))


def _unsaved(model: nn.Module) -> dict[str, torch.Size]:
    """Buffers that do not come with the weights, so that they cannot be given another size."""
    saved = model.state_dict()
    return {name: one.shape for name, one in model.named_buffers() if name not in saved}


def _outermost(names: Iterator[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        if not _inside(name, found):
            found.append(name)
    return found


def _inside(name: str, outer: list[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in outer)


def _changed(before: nn.Module, after: nn.Module) -> dict[str, Value]:
    old, new = _told(before), _told(after)
    return {name: value for name, value in new.items() if name not in old or old[name] != value}


def _told(module: nn.Module) -> dict[str, Value]:
    """Plain attributes of a module and of its configuration."""
    configuration = vars(module).get(CONFIGURATION)
    held = getattr(configuration, "__dict__", {})
    inner = {name: _as_value(value) for name, value in held.items()}
    return _plain(module) | {
        f"{CONFIGURATION}.{name}": value[0] for name, value in inner.items() if value is not None
    }


def _plain(module: nn.Module) -> dict[str, Value]:
    """Attributes that are plain data; whether it trains is no matter of shape."""
    values = {name: _as_value(value) for name, value in vars(module).items()}
    return {
        name: value[0] for name, value in values.items() if value is not None and name != "training"
    }


def _as_value(value: Any) -> tuple[Value] | None:
    """Plain data in a tuple of one, None where it is something else."""
    if value is None or isinstance(value, bool | int | float | str):
        return (value,)
    if isinstance(value, list | tuple):
        entries = [_as_value(entry) for entry in value]
        if all(entry is not None for entry in entries):
            return ([entry[0] for entry in entries if entry is not None],)
    return None


def _spec(module: nn.Module, old: dict[str, nn.Module]) -> ModuleSpec | None:
    """How to build a module, or of which old one it is a copy; None where it is neither."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    children = {name: _spec(child, old) for name, child in module.named_children()}
    if not kind.startswith(TRUSTED) or any(child is None for child in children.values()):
        structure = _structure(module)
        twin = next((name for name in old if _structure(old[name]) == structure), None)
        return None if twin is None else ModuleSpec(kind=kind, copy_of=twin)
    kept = set(module.state_dict())
    return ModuleSpec(
        kind=kind,
        attributes=_plain(module) | _absent(module),
        parameters=tuple(name for name, _ in module.named_parameters(recurse=False)),
        buffers=tuple(name for name, _ in module.named_buffers(recurse=False) if name in kept),
        modules={name: child for name, child in children.items() if child is not None},
    )


def _structure(module: nn.Module) -> list[tuple[str, type]]:
    return [(name, type(inner)) for name, inner in module.named_modules()]


def _twins(spec: ModuleSpec, path: str, new: dict[str, nn.Module]) -> dict[str, str]:
    """Modules inside of copies -> what they are copies of."""
    if spec.copy_of:
        inner = [name.removeprefix(path) for name in new if _inside(name, [path])]
        return {path + name: spec.copy_of + name for name in inner}
    found: dict[str, str] = {}
    for leaf, child in spec.modules.items():
        found |= _twins(child, f"{path}.{leaf}", new)
    return found


def _absent(module: nn.Module) -> dict[str, Value]:
    """Parameters that the module could have and has not: a bias."""
    return {name: None for name, value in module._parameters.items() if value is None}


def _build(
    spec: ModuleSpec, prefix: str, state: dict[str, Tensor], before: dict[str, nn.Module]
) -> nn.Module:
    if spec.copy_of:
        if spec.copy_of not in before:
            raise CheckpointError(f"the model has no module {spec.copy_of}")
        return copy.deepcopy(before[spec.copy_of])
    if not spec.kind.startswith(TRUSTED):
        raise CheckpointError(f"{spec.kind} is neither a module of torch nor one of ours")
    home, _, name = spec.kind.rpartition(".")
    kind = getattr(import_module(home), name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise CheckpointError(f"there is no module {spec.kind}")
    module: nn.Module = kind.__new__(kind)
    nn.Module.__init__(module)
    for attribute, value in spec.attributes.items():
        vars(module)[attribute] = tuple(value) if isinstance(value, list) else value
    for leaf in (*spec.parameters, *spec.buffers):
        if f"{prefix}{leaf}" not in state:
            raise CheckpointError(f"the artifact has no weights for {prefix}{leaf}")
    for leaf in spec.parameters:
        module.register_parameter(leaf, nn.Parameter(torch.empty_like(state[f"{prefix}{leaf}"])))
    for leaf in spec.buffers:
        module.register_buffer(leaf, torch.empty_like(state[f"{prefix}{leaf}"]))
    for leaf, child in spec.modules.items():
        module.add_module(leaf, _build(child, f"{prefix}{leaf}.", state, before))
    return module


def _found(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(
            f"the model has no module {name}", "give an instance of the class that was compressed"
        ) from error
