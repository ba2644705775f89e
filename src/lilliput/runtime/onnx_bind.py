"""Which initializers of an ONNX file hold which parameters of the model it was exported from.

The exporter transposes, folds, stacks, reorders and merges weights, and renames what it touched.
Parameters are therefore recognised by value, and by what the node that reads an initializer was
exported from; never by the initializer's name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from torch import Tensor

from lilliput.model.sites import Site
from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_export import OnnxModel
from lilliput.runtime.onnx_folds import Fold
from lilliput.runtime.onnx_match import digest, factor_of, fits, order, rows_in

_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # ONNX order in torch's blocks
_TELLING = 256  # so many equal numbers are no coincidence


@dataclass(frozen=True)
class Piece:
    """How one parameter, or some of its rows, lies in an initializer.

    Attributes:
        parameter: Qualified name.
        shape: Shape of the parameter.
        rows: Positions on the parameter's first axis, in the initializer's order; None means all.
        transposed: The initializer holds the transpose.
        factor: What the exporter multiplied the parameter with, shaped to broadcast over it.
        slot: (direction, start, stop) on the first two axes of a stacked recurrent initializer;
            None where the piece is the whole initializer.
    """

    parameter: str
    shape: tuple[int, ...]
    rows: np.ndarray | None = None
    transposed: bool = False
    factor: np.ndarray | None = None
    slot: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Binding:
    """An initializer, the parameters it holds, and the places that read it on their behalf.

    Attributes:
        initializer: Its name in the file.
        shape: Its shape.
        pieces: What it is made of; more than one for stacked recurrent weights.
        uses: (node, input position) pairs that read these parameters. Equal parameters are merged
            by the exporter, so one initializer can have several bindings with different uses.
    """

    initializer: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    uses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Bindings:
    """All that was recognised.

    Attributes:
        original: The file, as `export_original` described it.
        found: One entry per initializer and set of parameters.
        missing: Sites whose weights were not (or not fully) recognised; they stay float.
        absent: Sites that the graph's outputs do not depend on; they are not in the file.
        replaceable: Parameters that `write_encodings` can give new values.
        folds: BatchNorms that were folded into the layer before them.
    """

    original: OnnxModel
    found: tuple[Binding, ...]
    missing: tuple[str, ...]
    absent: tuple[str, ...]
    replaceable: frozenset[str]
    folds: tuple[Fold, ...] = ()


def bind(original: OnnxModel, sites: Mapping[str, Site], state: Mapping[str, Tensor]) -> Bindings:
    """Finds every site, and every other parameter, in the initializers of an exported model.

    Args:
        original: What `export_original` returned.
        sites: Name -> site.
        state: Qualified name -> value of all parameters, as the model was exported with.

    Returns:
        Bindings; a site that was not found is listed in `missing`, never guessed.
    """
    graph = ir.load(original.path).graph
    search = _Search(graph, original.readers, _arrays(state), _aliases(sites, state))
    found = list(search.run())
    covered = _covered(found, search.state)
    lost = [name for name in sites if name not in covered]
    sizes = _unclaimed(graph, found)
    named = {name for names in original.readers.values() for name in names}
    missing = tuple(name for name in lost if name in named or sites[name].size in sizes)
    absent = tuple(name for name in lost if name not in missing)
    folds = tuple(search.folds(found))
    replaceable = frozenset(covered.union(*(fold.names for fold in folds)))
    return Bindings(original, tuple(found), missing, absent, replaceable, folds)


def _unclaimed(graph: ir.Graph, found: Iterable[Binding]) -> set[int]:
    """Sizes of the initializers that hold nothing known."""
    known = {binding.initializer for binding in found}
    values = graph.initializers.values()
    return {array_of(v).size for v in values if _is_weight(v) and v.name not in known}


def _arrays(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {
        name: _wide(value.detach().cpu())
        for name, value in state.items()
        if value.is_floating_point() and value.ndim
    }


def _wide(value: Tensor) -> np.ndarray:
    """At least 32 bits, so that half precision of any kind compares as numbers."""
    return np.asarray((value.float() if value.dtype.itemsize < 4 else value).contiguous().numpy())


def _wide_array(value: ir.Value) -> np.ndarray:
    array = array_of(value)
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def _aliases(sites: Mapping[str, Site], state: Mapping[str, Tensor]) -> dict[str, str]:
    """Every other name of a tied tensor -> the name that stands for it."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    names = {tie: name for name, site in sites.items() for tie in site.ties}
    for name in (*sites, *state):
        tensor = state.get(name)
        if tensor is not None and tensor.numel():
            names.setdefault(name, first.setdefault((tensor.data_ptr(), tuple(tensor.shape)), name))
    return {name: target for name, target in names.items() if name != target}


def _covered(found: Iterable[Binding], state: Mapping[str, np.ndarray]) -> set[str]:
    """Parameters all of whose rows lie in some initializer."""
    rows: dict[str, set[int]] = {}
    for binding in found:
        for piece in binding.pieces:
            length = state[piece.parameter].shape[0]
            have = range(length) if piece.rows is None else map(int, piece.rows)
            rows.setdefault(piece.parameter, set()).update(have)
    return {name for name, have in rows.items() if len(have) == state[name].shape[0]}


@dataclass
class _Search:
    """One pass over the initializers; what was found by value is not looked for again."""

    graph: ir.Graph
    readers: Mapping[str, tuple[str, ...]]
    arrays: Mapping[str, np.ndarray]
    aliases: Mapping[str, str]
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.state = {n: a for n, a in self.arrays.items() if n not in self.aliases}
        self.by_value: dict[bytes, list[tuple[str, bool]]] = {}
        for name, array in self.state.items():
            self.by_value.setdefault(digest(array), []).append((name, False))
            if array.squeeze().ndim == 2:
                turned = digest(np.ascontiguousarray(array.squeeze().T))
                self.by_value.setdefault(turned, []).append((name, True))

    def run(self) -> Iterator[Binding]:
        """Exact matches first, then recurrent stacks, then slices, then folded factors."""
        values = [v for v in self.graph.initializers.values() if _is_weight(v)]
        rest = []
        for value in values:
            exact = list(self._exact(value)) or list(self._stacked(value))
            self.taken |= {piece.parameter for binding in exact for piece in binding.pieces}
            yield from exact
            if not exact:
                rest.append(value)
        for value in rest:
            binding = self._slice(value) or self._scaled(value)
            if binding is not None:
                yield binding

    def folds(self, found: Iterable[Binding]) -> Iterator[Fold]:
        """The BatchNorms behind the factors, where node and parameters tell them."""
        nodes = {node.name: node for node in self.graph}
        for binding in found:
            piece = binding.pieces[0]
            if piece.factor is None or len(binding.uses) != 1:
                continue
            node = nodes[binding.uses[0][0]]
            factor = piece.factor.reshape(-1)
            norm = [n for n in self._read(node) if n in self.state]
            norm = [name for name in norm if self.state[name].shape == factor.shape]
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            if len(norm) != 2 or bias is None or not bias.is_initializer():
                continue
            own = piece.parameter.removesuffix("weight") + "bias"
            own_bias = own if own in self.state and own not in self.taken else None
            names = [*norm, *([own_bias] if own_bias else [])]
            yield Fold(
                parameter=piece.parameter,
                weight=self.state[piece.parameter],
                use=(node.name or "", 2),
                gamma=norm[0],
                beta=norm[1],
                layer_bias=own_bias,
                factor=factor,
                bias=_wide_array(bias),
                old={name: self.state[name] for name in names},
            )

    def _exact(self, value: ir.Value) -> Iterator[Binding]:
        array = _wide_array(value)
        candidates = {
            name: turned
            for name, turned in reversed(self.by_value.get(digest(array), []))
            if fits(self.state[name].shape, array.shape, turned)
        }
        if not candidates:
            return
        uses: dict[str, list[tuple[str, int]]] = {}
        for node, position in _uses(value):
            owner = self._owner(node, candidates, array.size)
            if owner is not None:
                uses.setdefault(owner, []).append((node.name or "", position))
        for name, places in uses.items():
            piece = Piece(name, self.state[name].shape, transposed=candidates[name])
            yield Binding(value.name or "", array.shape, (piece,), tuple(places))

    def _owner(self, node: ir.Node, candidates: Mapping[str, bool], size: int) -> str | None:
        """On whose behalf a node reads a value that several parameters share."""
        read = {self.aliases.get(name, name) for name in self._read(node)}
        named = [name for name in candidates if name in read]
        if len(named) == 1:
            return named[0]
        if not named and len(candidates) == 1 and (size >= _TELLING or not read):
            return next(iter(candidates))
        return None

    def _read(self, node: ir.Node) -> tuple[str, ...]:
        """Parameters that a node reads; of a node without origin, those its readers read."""
        known = self.readers.get(node.name or "")
        if known is not None:
            return known
        after = [user for output in node.outputs for user, _ in _uses(output)]
        return tuple(name for user in after for name in self.readers.get(user.name or "", ()))

    def _stacked(self, value: ir.Value) -> Iterator[Binding]:
        """Recurrent weights (directions, gates * hidden, in) and biases, gates in ONNX's order."""
        places = list(_uses(value))
        node, position = places[0]
        if node.op_type not in _GATES or position not in (1, 2, 3) or len(places) != 1:
            return
        array = _wide_array(value)
        gates = _GATES[node.op_type]
        pieces = []
        for direction, stack in enumerate(array):
            parts = np.split(stack, 2) if position == 3 else [stack]
            start = 0
            for part in parts:
                piece = self._gates(part, gates, self._read(node))
                if piece is None:
                    return
                slot = (direction, start, start + len(part))
                pieces.append(
                    Piece(piece, self.state[piece].shape, order(gates, len(part)), slot=slot)
                )
                start += len(part)
        yield Binding(value.name or "", array.shape, tuple(pieces), ((node.name or "", position),))

    def _gates(self, part: np.ndarray, gates: tuple[int, ...], read: Iterable[str]) -> str | None:
        """The parameter whose gates, put in ONNX's order, are `part`."""
        back = np.ascontiguousarray(part[np.argsort(order(gates, len(part)))])
        names = [name for name, turned in self.by_value.get(digest(back), []) if not turned]
        names = [name for name in names if self.state[name].shape == part.shape]
        named = [name for name in names if name in set(read)]
        names = named or names
        return names[0] if len(names) == 1 else None

    def _slice(self, value: ir.Value) -> Binding | None:
        """Some consecutive rows of a larger parameter, or their transpose."""
        array = _wide_array(value)
        if array.ndim != 2 or array.size < _TELLING:
            return None
        for name, whole in self.state.items():
            if whole.ndim != 2 or name in self.taken:
                continue
            for turned, part in ((False, array), (True, array.T)):
                rows = rows_in(part, whole)
                if rows is not None:
                    piece = Piece(name, whole.shape, rows, turned)
                    return Binding(value.name or "", array.shape, (piece,), _places(value))
        return None

    def _scaled(self, value: ir.Value) -> Binding | None:
        """A parameter times one factor per output channel: a folded BatchNorm."""
        array = _wide_array(value)
        if array.ndim < 2:
            return None
        found = []
        for name, whole in self.state.items():
            if name in self.taken:
                continue
            for turned in (False, True):
                if not fits(whole.shape, array.shape, turned):
                    continue
                back = (array.T if turned else array).reshape(whole.shape)
                factor = factor_of(back, whole, 0)
                factor = factor_of(back, whole, 1) if factor is None else factor
                if factor is not None:
                    found.append(Piece(name, whole.shape, None, turned, factor))
        if len(found) != 1:
            return None
        self.taken.add(found[0].parameter)
        return Binding(value.name or "", array.shape, (found[0],), _places(value))


def _is_weight(value: ir.Value) -> bool:
    constant = value.const_value
    floating = constant is not None and constant.dtype.is_floating_point()
    return floating and len(constant.shape) > 0 and bool(value.uses())  # type: ignore[union-attr]


def _uses(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    for usage in value.uses():
        yield usage.node, usage.idx


def _places(value: ir.Value) -> tuple[tuple[str, int], ...]:
    return tuple((node.name or "", position) for node, position in _uses(value))
