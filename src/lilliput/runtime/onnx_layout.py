"""From a parameter's own layout to that of the initializer which holds it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lilliput.model.encodings import Codebook, Dense, Encoding, Grid, Inputs, Outliers
from lilliput.runtime.onnx_bind import Binding, Piece
from lilliput.tensor.halves import snapped


@dataclass(frozen=True)
class Stored:
    """Integers and steps in the layout of an initializer: ``codes * row_steps * column_steps``.

    Attributes:
        codes: int8 or int16, in the initializer's shape.
        row_steps: float32, of the same number of axes, broadcasts over `codes`.
        column_steps: The same, or None for ones.
        name: Parameters it holds, joined; the stem of the names in the file.
        values: What the codes are indices of, (count,) float32; None where they are multiplied.
        inputs: How what they are multiplied with is rounded, or None.
        results: How what comes out of a convolution is rounded, or None.
        outliers: Columns that are float instead, or None.
        channels: What the convolution before multiplies what it hands on with, or None.
    """

    codes: np.ndarray
    row_steps: np.ndarray
    column_steps: np.ndarray | None
    name: str
    values: np.ndarray | None = None
    inputs: Inputs | None = None
    results: Inputs | None = None
    outliers: Outliers | None = None
    channels: np.ndarray | None = None


def store_grid(binding: Binding, encodings: Mapping[str, Encoding]) -> Stored | None:
    """The integers of an initializer, or None unless all its pieces are grids it can hold.

    Or one piece whose entries share values.
    """
    only = encodings.get(binding.pieces[0].parameter)
    if isinstance(only, Codebook):
        alone = len(binding.pieces) == 1 and binding.pieces[0].slot is None
        clear = not _axes_unclear(only)
        return _whole(binding, binding.pieces[0], only) if alone and clear else None
    grids = []
    for piece in binding.pieces:
        encoding = encodings.get(piece.parameter)
        if not isinstance(encoding, Grid) or _axes_unclear(encoding):
            return None
        grids.append((piece, encoding))
    if len(grids) == 1 and grids[0][0].slot is None:
        return _whole(binding, *grids[0])
    return _stack(binding, grids)


def store_float(
    binding: Binding, values: Mapping[str, np.ndarray], before: np.ndarray
) -> np.ndarray:
    """The initializer with new values for those of its parameters that `values` names."""
    array = before.copy()
    for piece in binding.pieces:
        if piece.parameter not in values:
            continue
        value = values[piece.parameter].astype(np.float32)
        if piece.factor is not None:
            value = value * piece.factor
        if piece.slot is None:
            array = _lay(piece, value, binding.shape).astype(before.dtype)
        else:
            direction, start, stop = piece.slot
            array[direction, start:stop] = _lay(piece, value, array[direction, start:stop].shape)
    return np.ascontiguousarray(array)


def decoded(encoding: Encoding) -> np.ndarray:
    """The value of a parameter as the model computes with it."""
    weight = encoding.weight if isinstance(encoding, Dense) else encoding.decode()
    return np.asarray(weight.detach().cpu().float().numpy())


def _axes_unclear(grid: Grid | Codebook) -> bool:
    """Rows of the matrix view must be whole axes of the parameter for steps to have a place."""
    return _first_axes(grid) is None


def _first_axes(grid: Grid | Codebook) -> int | None:
    """How many axes of the parameter hold the rows (columns, where it is stored transposed)."""
    wanted = grid.codes.shape[1 if grid.transposed else 0]
    sizes = (math.prod(grid.shape[:axes]) for axes in range(1, len(grid.shape)))
    return next((axes for axes, size in enumerate(sizes, 1) if size == wanted), None)


def _whole(binding: Binding, piece: Piece, grid: Grid | Codebook) -> Stored:
    codes, rows, columns = _parameter_shaped(piece, grid)
    stored = Stored(
        np.ascontiguousarray(_lay(piece, codes, binding.shape)),
        _lay(piece, rows, binding.shape),
        None if columns is None else _lay(piece, columns, binding.shape),
        piece.parameter,
    )
    if isinstance(grid, Codebook):
        return replace(stored, values=grid.values.float().numpy())
    channels = None if grid.channels is None else grid.channels.float().numpy()
    return replace(
        stored,
        inputs=grid.inputs,
        results=grid.results,
        outliers=grid.outliers,
        channels=channels,
    )


def _stack(binding: Binding, grids: list[tuple[Piece, Grid]]) -> Stored:
    """Codes (directions, gates * H, in), row steps (.., gates * H, 1), column steps (.., 1, in)."""
    wide = any(grid.codes.element_size() > 1 for _, grid in grids)
    codes = np.zeros(binding.shape, np.int16 if wide else np.int8)
    rows = np.ones((*binding.shape[:2], 1), np.float32)
    columns = np.ones((binding.shape[0], 1, binding.shape[2]), np.float32)
    scaled = False
    for piece, grid in grids:
        direction, start, stop = piece.slot or (0, 0, binding.shape[1])
        some, row, column = _parameter_shaped(piece, grid)
        codes[direction, start:stop] = _lay(piece, some, codes[direction, start:stop].shape)
        rows[direction, start:stop] = _lay(piece, row, (stop - start, 1))
        if column is not None:
            scaled = True
            columns[direction] = column
    name = "+".join(piece.parameter for piece, _ in grids)
    return Stored(codes, rows, columns if scaled else None, name)


def _parameter_shaped(
    piece: Piece, grid: Grid | Codebook
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Codes in the parameter's shape; row and column steps that broadcast over it."""
    axes = _first_axes(grid) or 1
    codes = grid.codes.numpy()
    codes = (codes.T if grid.transposed else codes).reshape(grid.shape)
    ones = [1] * len(grid.shape)
    first, last = [*grid.shape[:axes], *ones[axes:]], [*ones[:axes], *grid.shape[axes:]]
    rows = grid.row_steps.float().numpy().reshape(last if grid.transposed else first)
    columns = None
    if isinstance(grid, Grid) and grid.column_steps is not None:
        columns = grid.column_steps.float().numpy().reshape(first if grid.transposed else last)
    if piece.factor is None:
        return codes, rows, columns
    if piece.factor.shape == rows.shape:
        return codes, snapped(rows * piece.factor), columns
    return codes, rows, piece.factor if columns is None else columns * piece.factor


def _lay(piece: Piece, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Puts an array that has, or broadcasts over, the parameter's shape into the stored shape."""
    if piece.rows is not None and array.shape[0] != 1:
        array = array[piece.rows]
    rows = piece.shape[0] if piece.rows is None else len(piece.rows)
    full = (rows, *piece.shape[1:])
    sizes = [size for size, whole in zip(array.shape, full, strict=True) if whole != 1]
    array = array.reshape(sizes)
    array = array.T if piece.transposed else array
    left = iter(array.shape)
    return np.asarray(array.reshape([1 if size == 1 else next(left) for size in shape]))
