"""HQQ for whole models at a given file size: groups of 64, bits mixed by error, then zstd."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import zstandard
from torch import Tensor

from benchmarks.models import Subject
from benchmarks.peers import Compressed
from benchmarks.peers.files import Grouped, Item, Plain, read, write
from benchmarks.peers.parts import join, split
from benchmarks.peers.rounding import Rounding, hqq, squared_error

BITS = (1, 2, 3, 4, 5, 6)
CLOSE = 0.003  # a file this much below its target is close enough
PIECE = 2**20  # weights that share their number of bits


@dataclass(frozen=True)
class Choice:
    """One number of bits for one piece, its estimated bytes and its squared error."""

    item: Grouped
    bytes: int
    error: float


def whole_model(
    subject: Subject, targets: Sequence[int], rounding: Rounding = hqq
) -> Iterator[Compressed]:
    """The whole model within each target size (bytes): matrices rounded, vectors in fp16."""
    arrays = split(subject.model)
    fixed = {name: Plain(value.half()) for name, value in arrays.items() if value.ndim < 2}
    pieces = {
        f"{name}#{i}": piece
        for name, value in arrays.items()
        if value.ndim > 1
        for i, piece in enumerate(value.reshape(-1).split(PIECE))
    }
    table = {name: _choices(piece, rounding) for name, piece in pieces.items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        for target in targets:
            sizes, price = _fit(path, table, fixed, target)
            decoded = _whole(read(path), arrays)
            settings = {**sizes, "price": price, "group": 64}
            yield Compressed(join(subject.model, decoded), sizes["file"], settings)


def _choices(piece: Tensor, rounding: Rounding) -> list[Choice]:
    found = []
    for bits in BITS:
        item = rounding(piece, bits)
        coded = zstandard.compress(item.codes.numpy().tobytes(), 10)
        side = 2 * len(item.scales) + item.zeros.element_size() * len(item.zeros)
        error = squared_error(item, piece)
        found.append(Choice(item, min(len(coded), len(item.codes) * bits // 8) + side, error))
    return found


def _fit(
    path: Path, table: Mapping[str, list[Choice]], fixed: Mapping[str, Item], target: int
) -> tuple[dict[str, int], float]:
    """Write the file of least error within `target`: its sizes and the price of a byte."""
    aim, best = float(target), None
    for _ in range(4):
        low, high = 1e-12, 1e6
        for _ in range(80):
            price = (low * high) ** 0.5
            chosen = _cheapest(table, price)
            if sum(each.bytes for each in chosen.values()) > aim:
                low = price
            else:
                high = price
        chosen = _cheapest(table, high)
        sizes = write(path, {**fixed, **{name: each.item for name, each in chosen.items()}})
        if sizes["file"] <= target and (best is None or sizes["file"] > best[0]):
            best = sizes["file"], high
        if 0 <= target - sizes["file"] <= CLOSE * target:
            return sizes, high
        aim += (target - sizes["file"]) * 0.98
    if best is None:
        raise ValueError(f"no mixture fits into {target} bytes")
    chosen = _cheapest(table, best[1])
    return write(path, {**fixed, **{name: each.item for name, each in chosen.items()}}), best[1]


def _cheapest(table: Mapping[str, list[Choice]], price: float) -> dict[str, Choice]:
    return {
        name: min(choices, key=lambda each: each.error + price * each.bytes)
        for name, choices in table.items()
    }


def _whole(pieces: Mapping[str, Tensor], arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    for name, value in arrays.items():
        if value.ndim < 2:
            whole[name] = pieces[name]
            continue
        count = -(-value.numel() // PIECE)
        whole[name] = torch.cat([pieces[f"{name}#{i}"] for i in range(count)]).reshape(value.shape)
    return whole
