import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.batches import flatten_inputs, flatten_tensors
from lilliput.model.calls import run_with
from lilliput.model.encodings import Dense, Grid
from lilliput.model.sites import Site
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_bind import Binding, Piece
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_folds import half_precision_biases
from lilliput.runtime.onnx_layout import store_float, store_grid
from lilliput.runtime.sessions import default_session


def answers(path, inputs):
    session = default_session(path)
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, flatten_inputs(inputs), strict=True)))


def least_decibels(sample, encodings, path):
    """The worst agreement with PyTorch over all outputs."""
    replaced = {name: encoding.decode() for name, encoding in encodings.items()}
    wanted = flatten_tensors(run_with(sample.model, replaced, sample.inputs))
    found = [
        signal_to_noise(want.numpy(), answer)
        for want, answer in zip(wanted, answers(path, sample.inputs), strict=True)
    ]
    return min(np.inf if value is None else value for value in found)


@pytest.fixture(params=["language", "convolutions", "recurrent"])
def sample(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("columns", [False, True])
def test_the_artifact_computes_as_pytorch_in_the_default_session(
    sample, columns, make_grids, tmp_path
):
    encodings = make_grids(sample, columns=columns)
    path = tmp_path / "model.onnx"
    assert write_encodings(sample.bindings, encodings, path) == []
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert least_decibels(sample, encodings, path) > 105
    original = flatten_tensors(run_with(sample.model, {}, sample.inputs))[0].numpy()
    assert signal_to_noise(original, answers(path, sample.inputs)[0]) < 70  # it did change


def test_every_weight_is_stored_as_int8_once(sample, make_grids, tmp_path):
    path = tmp_path / "model.onnx"
    write_encodings(sample.bindings, make_grids(sample), path)
    tensors = {t.name: t for t in onnx.load(path).graph.initializer}
    codes = [t for t in tensors.values() if t.data_type == onnx.TensorProto.INT8]
    distinct = {name: site.size for name, site in sample.sites.items() if name != "second.weight"}
    assert sum(int(np.prod(t.dims)) for t in codes) == sum(distinct.values())
    floats = [t for t in tensors.values() if t.data_type == onnx.TensorProto.FLOAT]
    assert max(int(np.prod(t.dims)) for t in floats) <= 128  # biases, norms and steps


def test_the_same_encodings_give_the_same_bytes(sample, make_grids, tmp_path):
    for name in ("a", "b"):
        write_encodings(sample.bindings, make_grids(sample), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("columns", [False, True])
def test_integer_arithmetic_dequantizes_products_and_rounds_activations(
    language, columns, make_grids, tmp_path
):
    path = tmp_path / "model.onnx"
    encodings = make_grids(language, columns=columns)
    assert write_encodings(language.bindings, encodings, path, arithmetic="int8") == []
    nodes = onnx.load(path).graph.node
    readers = {name: node for node in nodes for name in node.input}
    products = [readers[n.output[0]].op_type for n in nodes if n.op_type == "DequantizeLinear"]
    assert sorted(products) == ["MatMul"] * 6 + ["Mul", "Transpose"]
    folded = [n.input[0] for n in nodes if n.op_type == "Cast" and n.input[0].endswith(".codes")]
    assert folded == ["raw.codes"]  # its steps lie along the inputs: no integer kernel takes that
    assert least_decibels(language, encodings, path) > 25


def test_rows_of_a_table_are_looked_up_as_integers(language, make_grids, tmp_path):
    path = tmp_path / "model.onnx"
    write_encodings(language.bindings, make_grids(language), path)
    graph = onnx.load(path).graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    gathers = [n for n in graph.node if n.op_type == "Gather" and n.input[1] == "tokens"]
    assert {kinds[node.input[0]] for node in gathers} == {
        onnx.TensorProto.INT8,
        onnx.TensorProto.FLOAT,
    }
    readers = [n for n in graph.node if "embed.weight.codes" in n.input]
    assert len(readers) == 2  # the rows looked up, and the tied head


def test_wide_codes_stay_exact(language, make_grids, tmp_path):
    path = tmp_path / "model.onnx"
    encodings = {}
    for name, grid in make_grids(language).items():
        codes = (grid.codes.to(torch.int16) * 200).clamp(-20000, 20000)
        encodings[name] = Grid(codes, grid.row_steps / 200, None, grid.shape)
    assert write_encodings(language.bindings, encodings, path, arithmetic="int8") == []
    assert least_decibels(language, encodings, path) > 105


def test_a_grid_over_the_transposed_view_is_stored_alike(language, make_grid, tmp_path):
    weight = dict(language.model.named_parameters())["embed.weight"]
    site = Site("embed.weight", "embedding", (50, 32), 32, 50, transposed=True)
    encodings = {"embed.weight": make_grid(site, weight, columns=True, transposed=True)}
    path = tmp_path / "model.onnx"
    assert write_encodings(language.bindings, encodings, path) == []
    assert least_decibels(language, encodings, path) > 105


def test_equal_parameters_can_become_different(language, tmp_path):
    path = tmp_path / "model.onnx"
    state = dict(language.model.named_parameters())
    names = ["first.weight", "second.weight", "first.bias", "layer.norm1.weight"]
    torch.manual_seed(1)
    encodings = {name: Dense(torch.randn_like(state[name])) for name in names}
    assert write_encodings(language.bindings, encodings, path) == []
    assert least_decibels(language, encodings, path) > 105


def test_biases_of_recurrent_layers_can_change(recurrent, tmp_path):
    path = tmp_path / "model.onnx"
    state = dict(recurrent.model.named_parameters())
    torch.manual_seed(1)
    encodings = {n: Dense(torch.randn_like(v)) for n, v in state.items() if v.ndim == 1}
    assert write_encodings(recurrent.bindings, encodings, path) == []
    assert least_decibels(recurrent, encodings, path) > 105


def test_a_recurrent_stack_with_one_float_direction_stays_float_and_says_so(
    recurrent, make_grids, tmp_path
):
    path = tmp_path / "model.onnx"
    encodings = make_grids(recurrent)
    del encodings["lstm.weight_ih_l0_reverse"]
    warnings = write_encodings(recurrent.bindings, encodings, path)
    assert [w.split(":")[1] for w in warnings] == [" integers do not fit, stored as float"]
    assert least_decibels(recurrent, encodings, path) > 105


@pytest.mark.parametrize("grids", [False, True])
def test_folded_norms_take_new_values(convolutions, grids, make_grids, tmp_path):
    path = tmp_path / "model.onnx"
    state = dict(convolutions.model.named_parameters())
    torch.manual_seed(1)
    names = ["norm.weight", "norm.bias", "norm_up.weight", "norm_up.bias", "up.bias"]
    encodings = {
        name: Dense(state[name].detach() + torch.randn(state[name].shape)) for name in names
    }
    encodings |= make_grids(convolutions) if grids else {}
    assert write_encodings(convolutions.bindings, encodings, path) == []
    assert least_decibels(convolutions, encodings, path) > 105


def test_folded_biases_can_be_made_to_fit_half_precision(convolutions, tmp_path):
    path = tmp_path / "model.onnx"
    encodings = half_precision_biases(convolutions.bindings.folds, {})
    assert encodings.keys() == {"norm.bias", "norm_up.bias"}
    assert write_encodings(convolutions.bindings, encodings, path) == []
    assert least_decibels(convolutions, encodings, path) > 105
    tensors = {t.name: t for t in onnx.load(path).graph.initializer}
    for name in ("stem.weight.bias", "up.weight.bias"):
        value = onnx.numpy_helper.to_array(tensors[name])
        np.testing.assert_array_equal(value, value.astype(np.float16))


def test_what_is_not_in_the_graph_is_said(convolutions, tmp_path):
    path = tmp_path / "model.onnx"
    encodings = {"unread.weight": Dense(torch.ones(3))}
    [warning] = write_encodings(convolutions.bindings, encodings, path)
    assert warning.startswith("unread.weight: not in the ONNX graph")


@given(st.integers(2, 6), st.integers(2, 6), st.booleans(), st.booleans(), st.integers(0, 2**31))
def test_stored_integers_decode_to_the_parameter(rows, columns, turned, scaled, seed):
    torch.manual_seed(seed)
    grid = Grid(
        torch.randint(-127, 128, (rows, columns), dtype=torch.int8),
        torch.rand(rows) + 0.1,
        torch.rand(columns) + 0.1 if scaled else None,
        (rows, columns),
    )
    shape = (columns, rows) if turned else (rows, columns)
    binding = Binding("w", shape, (Piece("p", (rows, columns), transposed=turned),), ())
    stored = store_grid(binding, {"p": grid})
    assert stored is not None
    value = stored.codes.astype(np.float32) * stored.row_steps
    value = value if stored.column_steps is None else value * stored.column_steps
    np.testing.assert_array_equal(value.T if turned else value, grid.decode().numpy())
    array = store_float(binding, {"p": grid.decode().numpy()}, np.zeros(shape, np.float32))
    np.testing.assert_array_equal(array, value)
