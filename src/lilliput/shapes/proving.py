"""Of several ways to build a changed model, the first that answers as it should."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, Literal

from torch import fx, nn
from torch.export import ExportedProgram

from lilliput.errors import LilliputError, ShapeError
from lilliput.model.exporting import FAILURES
from lilliput.model.graph import run_graph
from lilliput.shapes.flow import operator_name
from lilliput.shapes.proof import ROUNDING, Reference
from lilliput.shapes.reshaped import Reshaped

Build = tuple[Literal["class", "graph"], Callable[[], nn.Module]]


class Altered(nn.Module):
    """The graph of a model in which some operators give something else: what a change must equal.

    Args:
        model: The original, which stays as it is.
        program: Its capture.
        instead: Name of a node -> what it gives, by its arguments.
    """

    def __init__(
        self, model: nn.Module, program: ExportedProgram, instead: Mapping[str, Callable[..., Any]]
    ) -> None:
        super().__init__()
        self.model = model
        self._program = program
        self._instead = instead
        altered = [node for node in program.graph.nodes if node.name in instead]
        self._written = {str(one.args[0]) for one in altered if operator_name(one).endswith("_")}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's outputs."""

        before: dict[str, Any] = {}

        def visit(node: fx.Node, given: tuple[Any, ...], value: Any) -> Any:
            if node.name in self._instead:
                first = before.get(str(node.args[0]), given[0])
                value = self._instead[node.name](first, *given[1:])
            if node.name in self._written:
                before[node.name] = value.clone()
            return value

        at = frozenset({*self._instead, *self._written})
        return run_graph(self._program, self.model, (args, kwargs), visit=visit, at=at)


def first_proved(
    builds: Iterable[Build], reference: Reference, *, what: str, within: float = ROUNDING
) -> Reshaped:
    """The first model that answers as the reference at all its sizes of inputs.

    Args:
        builds: Ways to make one, the user's own class before the graph.
        reference: What it has to equal up to rounding.
        what: For messages: what was to be done.
        within: What may be left of a difference, over the largest output.

    Raises:
        ShapeError: None of them does.
    """
    refused: list[str] = []
    for how, build in builds:
        try:
            candidate = build()
            checks = reference.compare(candidate)
        except (*FAILURES, LilliputError) as error:
            refused.append(next(iter(str(error).splitlines()), type(error).__name__))
            continue
        if all(check.difference <= within for check in checks):
            return Reshaped(candidate, how, tuple(checks))
        worst = max(check.difference for check in checks)
        refused.append(f"the {how} answers otherwise, by {worst:.1e}")
    raise ShapeError(f"{what} was refused: {'; '.join(dict.fromkeys(refused))}")


def with_modules(model: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """A copy with other modules in the place of some, wherever those are mounted."""
    changed = deepcopy(model)
    mounted = dict(changed.named_modules(remove_duplicate=False))
    for name, new in modules.items():
        for other, module in mounted.items():
            if module is mounted[name]:
                owner, _, leaf = other.rpartition(".")
                setattr(changed.get_submodule(owner), leaf, new.train(module.training))
    return changed
