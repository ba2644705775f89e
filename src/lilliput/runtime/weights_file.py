"""Encoded weights without a graph: an ONNX file of initializers, for models that PyTorch runs.

The file has no nodes. It can be packed, unpacked and counted like any other ONNX file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import Tensor

from lilliput.errors import ContainerError, OutputError
from lilliput.model.encodings import (
    Codebook,
    Dense,
    Encoding,
    Grid,
    Grouped,
    LowRank,
    Outliers,
    factor_name,
)
from lilliput.tensor.packing import pack_codes, packed_width, unpack_codes

_ENTRY = "lilliput.weights"


def write_weights(
    state: Mapping[str, Tensor], encodings: Mapping[str, Encoding], path: Path
) -> None:
    """Writes a state: integers with their steps where a tensor is a grid, else the tensor.

    Args:
        state: Name -> tensor; names of one tensor under several names come from the caller once.
        encodings: Name -> what became of it.
        path: The file.

    Raises:
        OutputError: The file cannot be written.
    """
    tensors: dict[str, np.ndarray] = {}
    entries: dict[str, dict[str, object]] = {}
    products, state, encodings = _split(state, encodings)
    entries.update(products)
    for name, value in state.items():
        encoding = encodings.get(name)
        dtype = str(value.dtype).removeprefix("torch.")
        if isinstance(encoding, Grouped):
            entries[name], parts = _grouped_entry(encoding)
            tensors |= {f"{name}.{part}": array for part, array in parts.items()}
        elif isinstance(encoding, Grid | Codebook):
            entries[name] = {"shape": list(encoding.shape), "turned": encoding.transposed}
            tensors |= {f"{name}.{part}": array for part, array in _parts(encoding).items()}
        else:
            entries[name] = {}
            tensors[name] = _array(value if encoding is None else encoding.decode())
        entries[name]["dtype"] = dtype
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([], "weights", [], [], initializers)
    opset = [onnx.helper.make_opsetid("", 20)]
    proto = onnx.helper.make_model(
        graph, opset_imports=opset, ir_version=10, producer_name="lilliput"
    )
    onnx.helper.set_model_props(proto, {_ENTRY: json.dumps(entries)})
    try:
        path.write_bytes(proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise OutputError(f"cannot write {path.name}: {error.strerror}") from error


def _parts(encoding: Grid | Codebook) -> dict[str, np.ndarray]:
    """The arrays that an encoding consists of."""
    parts = {"codes": encoding.codes, "rows": encoding.row_steps}
    if isinstance(encoding, Codebook):
        parts["values"] = encoding.values
        return {name: tensor.numpy() for name, tensor in parts.items()}
    if encoding.column_steps is not None:
        parts["columns"] = encoding.column_steps
    if encoding.outliers is not None:
        parts["places"], parts["outliers"] = encoding.outliers.places, encoding.outliers.weight
    return {name: tensor.numpy() for name, tensor in parts.items()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The decoded tensors of a file that `write_weights` wrote.

    Raises:
        ContainerError: It is no such file.
    """
    try:
        proto = onnx.load(path, load_external_data=False)
        entries = json.loads({p.key: p.value for p in proto.metadata_props}[_ENTRY])
    except (OSError, DecodeError, KeyError, ValueError) as error:
        raise ContainerError(f"{path.name} holds no weights of Lilliput's") from error
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    products = {name: entry for name, entry in entries.items() if "factors" in entry}
    parts = {
        name: _decoded(name, entry, arrays)
        for name, entry in entries.items()
        if name not in products
    }
    return _multiplied(parts, products)


def _split(
    state: Mapping[str, Tensor], encodings: Mapping[str, Encoding]
) -> tuple[dict[str, dict[str, object]], dict[str, Tensor], dict[str, Encoding]]:
    """Entries of the products, and state and encodings with factors in their place."""
    entries: dict[str, dict[str, object]] = {}
    whole, made = dict(state), dict(encodings)
    for name, product in encodings.items():
        if not isinstance(product, LowRank) or name not in whole:
            continue
        dtype = str(whole.pop(name).dtype).removeprefix("torch.")
        names = [factor_name(name, place) for place in range(len(product.factors))]
        whole |= {n: f.decode() for n, f in zip(names, product.factors, strict=True)}
        made |= dict(zip(names, product.factors, strict=True))
        entries[name] = {
            "factors": names,
            "shape": list(product.shape),
            "turned": product.transposed,
            "dtype": dtype,
        }
    return entries, whole, made


def _multiplied(
    parts: dict[str, Tensor], products: Mapping[str, Mapping[str, object]]
) -> dict[str, Tensor]:
    """The tensors, factors multiplied."""
    for name, entry in products.items():
        names, shape = entry["factors"], entry["shape"]
        factors = tuple(Dense(parts.pop(n)) for n in names) if isinstance(names, list) else ()
        whole = LowRank(factors, _shape(shape), bool(entry["turned"])).decode()
        parts[name] = whole.to(getattr(torch, str(entry["dtype"])))
    return parts


def _shape(listed: object) -> tuple[int, ...]:
    return tuple(listed) if isinstance(listed, list) else ()


def _decoded(name: str, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Tensor:
    dtype = getattr(torch, str(entry["dtype"]))
    if f"{name}.codes" not in arrays:
        return torch.from_numpy(arrays[name].copy()).to(dtype)
    if "bits" in entry:
        return _read_grouped(name, entry, arrays).decode().to(dtype)
    codes, rows = arrays[f"{name}.codes"], arrays[f"{name}.rows"]
    columns = arrays.get(f"{name}.columns")
    shape = _shape(entry["shape"])
    numbers, steps = torch.from_numpy(codes.copy()), torch.from_numpy(rows.copy())
    turned = bool(entry["turned"])
    if f"{name}.values" in arrays:
        values = torch.from_numpy(arrays[f"{name}.values"].copy())
        return Codebook(numbers, values, steps, shape, turned).decode().to(dtype)
    factors = None if columns is None else torch.from_numpy(columns.copy())
    outliers = None
    if f"{name}.places" in arrays:
        kept = (
            torch.from_numpy(arrays[f"{name}.{part}"].copy()) for part in ("places", "outliers")
        )
        outliers = Outliers(*kept)
    return Grid(numbers, steps, factors, shape, turned, outliers=outliers).decode().to(dtype)


Entry = dict[str, object]


def _grouped_entry(encoding: Grouped) -> tuple[Entry, dict[str, np.ndarray]]:
    """Settings, and codes as they are packed, steps, zeros and column steps."""
    shape = list(encoding.shape)
    entry: Entry = {"shape": shape, "turned": encoding.transposed, "bits": encoding.bits}
    entry |= {"group": encoding.group, "columns": encoding.codes.shape[1]}
    packed = pack_codes(encoding.codes.numpy(), packed_width(encoding.bits))
    parts = {"codes": packed, "steps": encoding.steps.numpy()}
    if encoding.zeros is not None:
        parts["zeros"] = encoding.zeros.numpy()
    if encoding.column_steps is not None:
        parts["columns"] = encoding.column_steps.numpy()
    return entry, parts


def _read_grouped(name: str, entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Grouped:
    def part(kind: str) -> Tensor | None:
        array = arrays.get(f"{name}.{kind}")
        return None if array is None else torch.from_numpy(array.copy())

    bits, columns = int(entry["bits"]), int(entry["columns"])
    codes = unpack_codes(arrays[f"{name}.codes"], packed_width(bits), count=columns)
    return Grouped(
        codes=torch.from_numpy(np.ascontiguousarray(codes)),
        steps=torch.from_numpy(arrays[f"{name}.steps"].copy()),
        zeros=part("zeros"),
        bits=bits,
        group=int(entry["group"]),
        column_steps=part("columns"),
        shape=tuple(entry["shape"]),
        transposed=bool(entry["turned"]),
    )


def _array(value: Tensor) -> np.ndarray:
    """As NumPy; bfloat16, which NumPy lacks, as float32."""
    value = value.detach().cpu().contiguous()
    return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
