from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from test_onnx_encode import answers, least_decibels

from lilliput.model.encodings import Grouped
from lilliput.runtime.onnx_count import count_macs, count_parameters
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.tensor.ranges import clipped_ranges


def grouped(site, value, *, bits=4, group=16, symmetric=False, columns=False, packed=True):
    """Round to nearest in groups, with or without column steps."""
    matrix = value.detach().reshape(site.rows, site.columns)
    factor = torch.linspace(0.5, 1.5, site.columns) if columns else None
    scaled = matrix if factor is None else matrix / factor
    ranges = clipped_ranges(scaled, bits, group=group, symmetric=symmetric)
    return Grouped(
        codes=ranges.codes(scaled).to(torch.uint8),
        steps=ranges.steps,
        zeros=None if symmetric else ranges.zeros.to(torch.uint8),
        bits=bits,
        group=group,
        column_steps=factor,
        shape=tuple(value.shape),
        packed=packed,
    )


def all_grouped(sample, **how):
    state = dict(sample.model.named_parameters())
    return {n: grouped(s, state[n], **how) for n, s in sample.sites.items()}


def kinds(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(params=["language", "convolutions"])
def sample(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_artifact_computes_as_pytorch_in_the_default_session(
    sample, bits, symmetric, columns, packed, tmp_path
):
    how = {"bits": bits, "symmetric": symmetric, "columns": columns, "packed": packed}
    encodings = all_grouped(sample, **how)
    path = tmp_path / "model.onnx"
    assert write_encodings(sample.bindings, encodings, path) == []
    onnx.checker.check_model(onnx.load(path))
    assert least_decibels(sample, encodings, path) > 105


def test_products_and_look_ups_compute_on_packed_codes(language, tmp_path):
    packed, plain = tmp_path / "packed.onnx", tmp_path / "plain.onnx"
    encodings = all_grouped(language, symmetric=True)
    write_encodings(language.bindings, encodings, packed)
    write_encodings(language.bindings, all_grouped(language, packed=False), plain)
    found = kinds(packed)
    assert (found["MatMulNBits"], found["GatherBlockQuantized"]) == (7, 0)
    assert "MatMulNBits" not in kinds(plain)
    tensors = onnx.load(packed).graph.initializer
    codes = {t.name: t for t in tensors if t.name.endswith(".codes")}
    head = codes["embed.weight.codes"]  # looked up and multiplied, stored once
    assert (list(head.dims), head.data_type) == ([50, 2, 8], onnx.TensorProto.UINT8)


def test_a_table_of_its_own_is_looked_up_packed(make_sample, tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(40, 64), torch.nn.Linear(64, 3))
    tokens = torch.randint(0, 40, (2, 5))
    sample = make_sample(model, (tokens,), tmp_path / "plain.onnx")
    path = tmp_path / "model.onnx"
    for bits in (2, 3, 4, 8):
        encodings = all_grouped(sample, bits=bits, columns=True)
        write_encodings(sample.bindings, encodings, path)
        assert kinds(path)["GatherBlockQuantized"] == 1
        assert least_decibels(sample, encodings, path) > 105
        assert count_parameters(path) == count_parameters(tmp_path / "plain.onnx")


def test_accuracy_level_keeps_activations_in_floating_point(language, tmp_path):
    path = tmp_path / "model.onnx"
    write_encodings(language.bindings, all_grouped(language), path)
    nodes = [n for n in onnx.load(path).graph.node if n.op_type == "MatMulNBits"]
    levels = {a.i for n in nodes for a in n.attribute if a.name == "accuracy_level"}
    assert levels == {1}


@pytest.mark.parametrize("packed", [False, True])
def test_groups_that_do_not_divide_the_columns(language, packed, tmp_path):
    site, name = language.sites["first.weight"], "first.weight"
    value = dict(language.model.named_parameters())[name]
    path = tmp_path / "model.onnx"
    encodings = {name: grouped(site, value, group=24, packed=packed)}  # no power of two either
    assert write_encodings(language.bindings, encodings, path) == []
    assert "MatMulNBits" not in kinds(path)
    assert least_decibels(language, encodings, path) > 105


def test_recurrent_weights_are_stored_as_float_and_it_says_so(recurrent, tmp_path):
    path = tmp_path / "model.onnx"
    encodings = all_grouped(recurrent)
    warnings = write_encodings(recurrent.bindings, encodings, path)
    assert {w.split(":")[1] for w in warnings} == {" integers do not fit, stored as float"}
    assert least_decibels(recurrent, encodings, path) > 105


def test_packed_weights_are_counted(language, tmp_path):
    packed, plain = tmp_path / "packed.onnx", language.bindings.original.path
    arrays = [np.ones((1, 7), np.int64), np.ones((1, 1), np.float32)]
    if onnx.load(plain).graph.input[0].name == "scale":
        arrays = arrays[::-1]
    write_encodings(language.bindings, all_grouped(language), packed)
    assert count_parameters(packed) == count_parameters(plain)
    assert count_macs(packed, arrays) == count_macs(plain, arrays)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_openvino_reads_the_same_file(language, bits, tmp_path):
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "model.onnx"
    write_encodings(language.bindings, all_grouped(language, bits=bits), path)
    compiled = openvino.Core().compile_model(path, "CPU", {"EXECUTION_MODE_HINT": "ACCURACY"})
    inputs = {name: value.numpy() for name, value in language.inputs.items()}
    for wanted, got in zip(answers(path, language.inputs), compiled(inputs).values(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)
