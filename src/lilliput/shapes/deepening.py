"""More blocks as a transaction: inserted into a copy, proved against the original, or refused."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from lilliput.errors import ShapeError
from lilliput.model.exporting import FAILURES
from lilliput.shapes.blocks import Block
from lilliput.shapes.proof import Check, Reference
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.stillness import Stillness, scales, stillness
from lilliput.shapes.widths import Shape

EXACT = 1e-5  # of the largest output
_Stack = nn.ModuleList | nn.Sequential
_COUNTS = ("layer", "depth", "block")


def deepen(model: nn.Module, shape: Shape, *, block: Block, inputs: Any) -> Reshaped:
    """Inserts a copy of a block behind it that starts as the identity. The model is left as it was.

    The copy's last projections are zero, so that it adds nothing (as Net2DeeperNet, arXiv
    1511.05641, for residual blocks). Where norms follow the sums, the copy takes over scale and
    shift of the block's last norm, and the norms before no longer scale.

    Args:
        model: The model that `shape` was made of.
        shape: Its capture.
        block: A block that is a module.
        inputs: One example batch.

    Raises:
        ShapeError: The block cannot be made the identity, its place cannot take another one, or
            the deeper model answers otherwise.
    """
    step = f"a block behind {block.name}"
    if not block.module:
        raise ShapeError(f"{step} was refused: it is no module of its own")
    new = copy.deepcopy(model.get_submodule(block.name))
    still, names = _stillness(shape, block), _names(model, shape, block)
    reference = Reference(model, Kept(shape, {}), inputs)
    refused = []
    for counted in (False, True):
        deeper = copy.deepcopy(model)
        _silence(still, names, old=deeper.get_submodule(block.name), new=new)
        home = _insert(deeper, block.name, new, counted=counted)
        try:
            checks = _compared(deeper, home, reference)
        except FAILURES as error:
            refused.append(next(iter(str(error).splitlines()), type(error).__name__))
            continue
        if checks and all(check.difference <= EXACT for check in checks):
            return Reshaped(deeper, "class", tuple(checks))
        worst = max((check.difference for check in checks), default=0.0)
        refused.append(f"other answers, by {worst:.1e}" if checks else "not all blocks are called")
    raise ShapeError(f"{step} was refused: {'; '.join(dict.fromkeys(refused))}")


def _stillness(shape: Shape, block: Block) -> Stillness:
    nodes = {node.name: node for node in shape.captured.graph.graph.nodes}
    found = None
    if block.entry and block.exit:
        found = stillness(nodes[block.entry], nodes[block.exit], parameters=set(_parameters(shape)))
    if found is None:
        raise ShapeError(f"no weights are known that make {block.name} add nothing")
    return found


def _parameters(shape: Shape) -> dict[fx.Node, str]:
    """Nodes of weights -> their qualified names."""
    program = shape.captured.graph
    kinds = {one.arg.name: one for one in program.graph_signature.input_specs}
    return {
        node: str(kinds[node.name].target)
        for node in program.graph.nodes
        if node.op == "placeholder" and kinds[node.name].kind is InputKind.PARAMETER
    }


def _names(model: nn.Module, shape: Shape, block: Block) -> dict[fx.Node, str]:
    """Nodes of weights -> their names inside of a block, for those that it has."""
    module = model.get_submodule(block.name)
    own = {id(one): name for name, one in module.named_parameters(remove_duplicate=False)}
    held = {node: id(model.get_parameter(name)) for node, name in _parameters(shape).items()}
    return {node: own[number] for node, number in held.items() if number in own}


def _silence(
    still: Stillness, names: dict[fx.Node, str], *, old: nn.Module, new: nn.Module
) -> None:
    """Makes the new block add nothing, and the norms up to it scale nothing."""

    def own(module: nn.Module, node: fx.Node) -> Tensor:
        if node not in names:
            raise ShapeError(f"the block takes {node.name} from the rest of the model")
        return module.get_parameter(names[node])

    with torch.no_grad():
        for node in still.zeros:
            own(new, node).zero_()
        for module, norms in ((new, still.norms[:-1]), (old, still.norms[-1:])):
            for norm in norms:
                for node, start in zip(scales(norm), (1.0, 0.0), strict=False):
                    own(module, node).fill_(start)


def _insert(model: nn.Module, name: str, new: nn.Module, *, counted: bool) -> _Stack:
    """Puts a module behind another one; what numbers and counts its neighbours follows."""
    path, _, leaf = name.rpartition(".")
    home = model.get_submodule(path)
    if not isinstance(home, _Stack):
        pair = nn.Sequential(getattr(home, leaf), new)
        setattr(home, leaf, pair)
        return pair
    before = len(home)
    numbers = list(_numbers(home))
    home.insert(int(leaf) + 1, new)
    for inner, attribute in numbers:
        for place, child in enumerate(home):
            setattr(child.get_submodule(inner), attribute, place)
    if counted:
        _count(model, path, before)
    return home


def _numbers(home: _Stack) -> Iterator[tuple[str, str]]:
    """Attributes that hold a block's place among its neighbours: module inside of it, name."""
    for inner, module in home[0].named_modules():
        for attribute, value in vars(module).items():
            if type(value) is int and len(home) > 1:
                found = [_attribute(child, inner, attribute) for child in home]
                if found == list(range(len(home))):
                    yield inner, attribute


def _attribute(module: nn.Module, inner: str, attribute: str) -> Any:
    try:
        return getattr(module.get_submodule(inner), attribute, None)
    except AttributeError:
        return None


def _count(model: nn.Module, path: str, before: int) -> None:
    """Numbers of layers in modules around the list, and in their configuration, grow by one."""
    parts = path.split(".")
    around = [model.get_submodule(".".join(parts[:place])) for place in range(len(parts))]
    held = [vars(module).get("config") for module in around]
    configurations = {id(one): one for one in held if one is not None}
    for owner in (*around, *configurations.values()):
        for attribute, value in list(vars(owner).items()):
            if type(value) is int and value == before and any(c in attribute for c in _COUNTS):
                setattr(owner, attribute, before + 1)


def _compared(deeper: nn.Module, home: _Stack, reference: Reference) -> list[Check]:
    """The differences from the original; none where not all of a stack is called."""
    called: set[nn.Module] = set()
    handles = [one.register_forward_hook(lambda one, *_: called.add(one)) for one in home]
    try:
        checks = reference.compare(deeper)
    finally:
        for handle in handles:
            handle.remove()
    return checks if len(called) == len(set(home)) else []
