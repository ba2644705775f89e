"""More blocks as a transaction: inserted into a copy, proved against the original, or refused."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from lilliput.errors import ShapeError
from lilliput.model.calls import run_with
from lilliput.shapes.blocks import Block
from lilliput.shapes.proof import EXACT, Reference
from lilliput.shapes.proving import Build, first_proved
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.stillness import Stillness, scales, stillness
from lilliput.shapes.widths import Shape

_Stack = nn.ModuleList | nn.Sequential
_Insert = Callable[[nn.Module, str, nn.Module], _Stack]
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
    still, names = _stillness(shape, block), _names(model, shape, block)

    def deeper(insert: _Insert) -> nn.Module:
        made = copy.deepcopy(model)
        old = made.get_submodule(block.name)
        new = copy.deepcopy(old)
        _silence(still, names, old=old, new=new)
        _check_called(made, insert(made, block.name, new), inputs)
        return made

    listed = isinstance(model.get_submodule(block.name.rpartition(".")[0]), _Stack)
    ways = (_beside, _counted, _behind) if listed else (_behind,)
    builds: list[Build] = [("class", partial(deeper, way)) for way in ways]
    return first_proved(builds, Reference(model, Kept(shape, {}), inputs), what=step, within=EXACT)


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


def _behind(model: nn.Module, name: str, new: nn.Module) -> _Stack:
    """Puts a module behind another one, as two in a sequence."""
    path, _, leaf = name.rpartition(".")
    pair = nn.Sequential(model.get_submodule(name), new)
    setattr(model.get_submodule(path), leaf, pair)
    return pair


def _beside(model: nn.Module, name: str, new: nn.Module) -> _Stack:
    """The same in the list that the other one is in; what numbers its neighbours follows."""
    path, _, leaf = name.rpartition(".")
    home = cast(_Stack, model.get_submodule(path))
    numbers = list(_numbers(home))
    home.insert(int(leaf) + 1, new)
    for inner, attribute in numbers:
        for place, child in enumerate(home):
            setattr(child.get_submodule(inner), attribute, place)
    return home


def _counted(model: nn.Module, name: str, new: nn.Module) -> _Stack:
    """The same where what counts the neighbours follows too."""
    home = _beside(model, name, new)
    _count(model, name.rpartition(".")[0], before=len(home) - 1)
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


def _count(model: nn.Module, path: str, *, before: int) -> None:
    """Numbers of layers in modules around the list, and in their configuration, grow by one."""
    parts = path.split(".")
    around = [model.get_submodule(".".join(parts[:place])) for place in range(len(parts))]
    held = [vars(module).get("config") for module in around]
    configurations = {id(one): one for one in held if one is not None}
    for owner in (*around, *configurations.values()):
        for attribute, value in list(vars(owner).items()):
            if type(value) is int and value == before and any(c in attribute for c in _COUNTS):
                setattr(owner, attribute, before + 1)


def _check_called(model: nn.Module, home: _Stack, inputs: Any) -> None:
    """Nothing was put where it is never reached.

    Raises:
        ShapeError: Not all of a stack is called.
    """
    called: set[nn.Module] = set()
    handles = [one.register_forward_hook(lambda one, *_: called.add(one)) for one in home]
    try:
        run_with(model, {}, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if called != set(home):
        raise ShapeError("not all blocks are called")
