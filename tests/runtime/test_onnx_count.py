import numpy as np

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
