import numpy as np
from onnx import TensorProto, helper

from graphs import graph, node, weight, written
from lilliput.batches import flatten_inputs
from lilliput.runtime.onnx_count import count_macs, count_parameters
from lilliput.runtime.onnx_encode import write_encodings


def test_multiply_adds_of_convolutions_by_hand(convolutions):
    arrays = [np.zeros((1, 3, 8, 8), np.float32)]
    stem, deep = 8 * 64 * 27, 8 * 64 * 9
    up, head = 8 * 64 * 4 * 4, 4 * 5
    assert count_macs(convolutions.exported.path, arrays) == stem + deep + up + head


def test_multiply_adds_of_recurrent_layers_by_hand(recurrent):
    lstm = 5 * 2 * 32 * ((6 + 8) + (16 + 8))
    gru, head = 5 * 24 * (16 + 8), 8 * 3
    arrays = [np.zeros((1, 5, 6), np.float32)]
    assert count_macs(recurrent.exported.path, arrays) == lstm + gru + head


def test_encoding_changes_neither_count(language, make_grids, tmp_path):
    path = tmp_path / "model.onnx"
    write_encodings(language.bindings, make_grids(language, columns=True), path)
    arrays = flatten_inputs(language.inputs)
    original = language.exported.path
    assert count_macs(path, arrays) == count_macs(original, arrays)
    assert count_parameters(path) == count_parameters(original)


def test_parameters_are_those_of_the_model_ties_and_equals_once(recurrent):
    own = sum(value.numel() for value in recurrent.model.parameters())
    extra = count_parameters(recurrent.exported.path) - own
    assert 0 <= extra <= 4  # constants of the graph


def test_products_in_branches_are_not_counted_but_their_weights_are(tmp_path):
    info = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    value = helper.make_tensor("value", TensorProto.FLOAT, [4, 3], weight(4, 3).reshape(-1))
    constant = helper.make_node("Constant", [], ["c"], value=value)
    branches = [
        helper.make_graph([constant, node("MatMul", "x c", "z")], "a", [], info),
        helper.make_graph([node("MatMul", "x w", "z")], "b", [], info),
    ]
    chosen = node("If", "flag", "y", then_branch=branches[0], else_branch=branches[1])
    sizes, kinds = {"x": ["N", 4], "flag": []}, {"flag": TensorProto.BOOL}
    model = graph([chosen], sizes, ["y"], weights={"w": weight(4, 5)}, kinds=kinds)
    path = written(model, tmp_path / "m.onnx")
    assert count_parameters(path) == 12 + 20
    assert count_macs(path, [np.zeros((1, 4), np.float32), np.array(True)]) is None
