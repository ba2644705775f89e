"""The weights-only path: sites and statistics from modules and hooks, without a graph."""

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from lilliput.model.calls import Arguments, arguments
from lilliput.model.exporting import batch_size, run_once
from lilliput.model.inventory import Inventory, canonical_names, weight_shapes
from lilliput.model.modulereads import ModuleRead, reads_of
from lilliput.model.positions import Positions
from lilliput.model.sites import Site
from lilliput.model.sums import Sums, rows_of, weights_of
from lilliput.model.uses import Use

_Seen = Callable[[str, nn.Module, Arguments], None]


def list_modules(model: nn.Module, inputs: Any, *, smallest: int = 256) -> Inventory:
    """Runs the model once and lists the weights of the modules it knows, in order of use.

    Args:
        model: In evaluation mode, gradients off.
        inputs: One batch.
        smallest: Weights with fewer elements are left out.
    """
    names, shapes = canonical_names(model), weight_shapes(model, smallest)
    batch = max(1, batch_size(inputs) or 1)
    inventory = Inventory()

    def seen(name: str, module: nn.Module, call: Arguments) -> None:
        for read in reads_of(module, call):
            use = _use(name, read, names)
            if use.site in shapes:
                inventory.add(_site(use, read, shapes[use.site]), use)
                inventory.count(use, _macs(use, read) // batch)

    with _watching(model, seen):
        run_once(model, arguments(inputs))
    for name in shapes.keys() - inventory.sites.keys():
        inventory.frozen[name] = "no module that the weights-only path knows reads it"
    inventory.close(names)
    return inventory


def observe_modules(sums: Sums, model: nn.Module, *, inputs: Any, mask: Tensor | None) -> None:
    """Runs the model on one batch and counts, through hooks, what its sites are applied to.

    Args:
        sums: Of a capture through modules.
        model: In evaluation mode, gradients off.
        inputs: One batch.
        mask: (batch, positions), or None.
    """
    names = canonical_names(model)
    positions = None if mask is None else Positions(mask)

    def seen(name: str, module: nn.Module, call: Arguments) -> None:
        done: set[Hashable] = set()
        for read in reads_of(module, call):
            use = _use(name, read, names)
            if use.site in sums.sites and use.key not in done:
                done.add(use.key)
                sums.count(use, read.value, weights_of(use, read.value, positions))

    with _watching(model, seen):
        run_once(model, arguments(inputs))


@contextmanager
def _watching(model: nn.Module, seen: _Seen) -> Iterator[None]:
    """Calls `seen` before every module's forward; a module run by `seen` itself is not seen."""
    busy: list[str] = []

    def hook_of(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not busy:
                busy.append(name)
                try:
                    seen(name, module, (args, kwargs))
                finally:
                    busy.clear()

        return hook

    handles = [
        module.register_forward_pre_hook(hook_of(name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _use(name: str, read: ModuleRead, names: dict[str, str]) -> Use:
    prefix = f"{name}." if name else ""
    return Use(
        site=names[prefix + read.attribute],
        operation=read.operation,
        where=name,
        source=name,
        geometry=read.geometry,
        label=read.label,
        row_index=read.rows,
    )


def _site(use: Use, read: ModuleRead, shape: tuple[int, ...]) -> Site:
    groups = 1 if read.geometry is None else read.geometry.groups
    columns = math.prod(shape[1:])
    return Site(use.site, read.kind, shape, shape[0], columns, groups=groups)


def _macs(use: Use, read: ModuleRead) -> int:
    if read.operation == "embedding":
        return 0
    rows = len(read.rows) if read.rows is not None else read.shape[0]
    return math.prod(rows_of(use, read.value)) * rows * math.prod(read.shape[1:])
