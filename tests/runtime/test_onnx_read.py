import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphs import graph, node, weight, written
from lilliput.errors import ContainerError
from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_read import read_onnx


def plain(**others) -> onnx.ModelProto:
    weights = {"w": weight(4, 300)}
    return graph([node("MatMul", "x w", "y")], {"x": ["N", 4]}, ["y"], weights=weights, **others)


def with_external_data(folder, location: str) -> onnx.ModelProto:
    model = plain()
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=4800)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    return model


def test_external_data_beside_the_file_is_loaded(tmp_path):
    (tmp_path / "w.bin").write_bytes(weight(4, 300).tobytes())
    path = written(with_external_data(tmp_path, "w.bin"), tmp_path / "m.onnx")
    found = read_onnx(path)
    assert not found.self_contained
    assert np.array_equal(array_of(found.model.graph.initializers["w"]), weight(4, 300))


@pytest.mark.parametrize("location", ["../w.bin", "inner/../../w.bin", "link.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path, location):
    (tmp_path / "w.bin").write_bytes(weight(4, 300).tobytes())
    folder = tmp_path / "own"
    (folder / "inner").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    path = written(with_external_data(folder, location), folder / "m.onnx")
    with pytest.raises(ContainerError, match=r"outside the model's folder|unsafe file name"):
        read_onnx(path)


def test_external_data_missing_or_short_is_refused(tmp_path):
    path = written(with_external_data(tmp_path, "w.bin"), tmp_path / "m.onnx")
    with pytest.raises(ContainerError, match=r"external data that is not there: 'w\.bin'"):
        read_onnx(path)
    (tmp_path / "w.bin").write_bytes(bytes(4799))
    with pytest.raises(ContainerError, match="external data of tensor 'w' is cut short"):
        read_onnx(path)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(ContainerError, match=r"cannot read .*No such file"):
        read_onnx(tmp_path / "none.onnx")
    data = plain().SerializeToString()
    for number, broken in enumerate((b"", b"no model", data[:100], data[: len(data) // 2])):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(broken)
        with pytest.raises(ContainerError):
            read_onnx(path)
    empty = helper.make_model(helper.make_graph([], "g", [], []))
    with pytest.raises(ContainerError, match="without a graph"):
        read_onnx(written(empty, tmp_path / "empty.onnx"))


def test_operators_that_nobody_has_are_named(tmp_path):
    model = plain()
    model.graph.node[0].domain = "my.own"
    model.opset_import.append(helper.make_opsetid("my.own", 1))
    with pytest.raises(ContainerError, match=r"operators that .* does not have: my\.own\.MatMul"):
        read_onnx(written(model, tmp_path / "m.onnx"))


def test_an_operator_set_that_is_too_old_is_refused(tmp_path):
    path = written(plain(opset=6), tmp_path / "m.onnx")
    with pytest.raises(ContainerError, match="operator set 6, which is too old"):
        read_onnx(path)


def test_sparse_weights_are_refused(tmp_path):
    model = plain()
    values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    index = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))
    with pytest.raises(ContainerError, match="sparse initializers"):
        read_onnx(written(model, tmp_path / "m.onnx"))


def test_a_quantized_file_is_called_one(tmp_path):
    codes = {"q": np.ones((4, 300), np.int8), "s": np.array(0.1, np.float32)}
    nodes = [node("DequantizeLinear", "q s", "w"), node("MatMul", "x w", "y")]
    model = graph(nodes, {"x": ["N", 4]}, ["y"], weights=codes)
    found = read_onnx(written(model, tmp_path / "m.onnx"))
    assert "quantized already (DequantizeLinear)" in found.notes[0]
    assert read_onnx(written(plain(), tmp_path / "n.onnx")).notes == ()
