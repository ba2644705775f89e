import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lilliput.coding.protobuf import find_tensors
from lilliput.errors import ContainerError


def test_finds_what_onnx_finds(model_bytes: bytes) -> None:
    model = onnx.load_from_string(model_bytes)
    found = {tensor.name: tensor for tensor in find_tensors(memoryview(model_bytes))}
    for tensor in model.graph.initializer:
        seen = found[tensor.name]
        assert seen.dims == tuple(tensor.dims)
        assert seen.data_type == tensor.data_type
        if tensor.raw_data:
            assert seen.span is not None
            assert model_bytes[slice(*seen.span)] == tensor.raw_data
    assert model_bytes[slice(*found["listed"].span)] == np.linspace(0, 1, 50, dtype="<f4").tobytes()


def test_finds_tensors_of_constants_in_subgraphs(model_bytes: bytes) -> None:
    model = onnx.load_from_string(model_bytes)
    inner = model.graph.node[0].attribute[0].g.node[0].attribute[0].t
    spans = [t.span for t in find_tensors(memoryview(model_bytes)) if t.name == "inner"]
    assert len(spans) == 2
    assert numpy_helper.to_array(inner).tobytes() == model_bytes[slice(*spans[0])]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x08\x0a", b"hello, this is text", bytes(100), b"PK\x03\x04" + bytes(30), b"\xff" * 40],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ContainerError, match="not an ONNX file"):
        find_tensors(memoryview(data))


def test_every_truncation_is_refused(model_bytes: bytes) -> None:
    for size in range(0, len(model_bytes), 37):
        try:
            tensors = find_tensors(memoryview(model_bytes[:size]))
        except ContainerError:
            continue
        assert all(tensor.span is None or tensor.span[1] <= size for tensor in tensors)


def test_deeply_nested_graphs_are_refused() -> None:
    def field(number: int, data: bytes) -> bytes:
        size, out = len(data), bytearray([number << 3 | 2])
        while size >= 128:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes(out) + bytes([size]) + data

    graph = b""
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ContainerError, match="nested too deeply"):
        find_tensors(memoryview(b"\x08\x0a" + field(7, graph)))
