"""Files of int8 peers, and how the row reads their speed."""

import numpy as np
import onnx
import pytest
import torch
from benchmarks.models import relative_error
from benchmarks.opened import (
    Opened,
    answers,
    in_onnxruntime,
    in_openvino,
    in_openvino_float32,
    seconds_in_turns,
    times_faster,
)
from benchmarks.peers import nncf_files
from onnx import TensorProto, helper, numpy_helper

needs_nncf = pytest.mark.skipif(
    not nncf_files.PYTHON.exists(), reason="needs .venv-nncf: sh benchmarks/setup.sh"
)
WIDTH = 64


@pytest.fixture
def original(tmp_path):
    """x (N, 64) -> relu(x W1) W2, (N, 64)."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.normal(size=(WIDTH, WIDTH)).astype("float32"), name)
        for name in ("first", "second")
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"], "one"),
        helper.make_node("Relu", ["hidden"], ["active"], "two"),
        helper.make_node("MatMul", ["active", "second"], ["y"], "three"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    path = tmp_path / "original.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )
    return path


def inputs(count, seed):
    return 2 * torch.rand(count, WIDTH, generator=torch.Generator().manual_seed(seed)) - 1


@needs_nncf
def test_nncf_writes_a_smaller_file_that_answers_nearly_the_same(original, tmp_path):
    path = tmp_path / "nncf.xml"
    examples = [{"x": row} for row in inputs(32, 0)]
    nncf_files.nncf_file(original, path, examples=examples, preset="mixed")
    batches = ({"x": inputs(16, 1)},)
    reference = answers(in_openvino_float32(original), batches)
    error = relative_error(reference, answers(in_openvino_float32(path), batches))["relative"]
    assert 1e-4 < error < 0.1  # 8 bits; NNCF cuts off what few examples reach
    weights = 4 * 2 * WIDTH * WIDTH
    assert path.with_suffix(".bin").stat().st_size < 0.35 * weights


@needs_nncf
def test_nncf_is_handed_every_example(original, tmp_path):
    """The range of its inputs is that of all of them: the last of eleven reaches far."""
    examples = [{"x": row} for row in inputs(11, 0)]
    examples[-1] = {"x": 1000 * examples[-1]["x"]}
    path = tmp_path / "nncf.xml"
    nncf_files.nncf_file(original, path, examples=examples, preset="performance")
    batches = ({"x": inputs(16, 1)},)
    reference = answers(in_openvino_float32(original), batches)
    error = relative_error(reference, answers(in_openvino_float32(path), batches))["relative"]
    assert error > 0.2


def test_nncf_without_its_environment_names_the_command(original, tmp_path, monkeypatch):
    monkeypatch.setattr(nncf_files, "PYTHON", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"run `sh benchmarks/setup\.sh`"):
        nncf_files.nncf_file(original, tmp_path / "nncf.xml", examples=[])
    assert sorted(tmp_path.iterdir()) == [original]


def test_both_runtimes_answer_the_same_in_float32(original):
    batches = ({"x": inputs(3, 0)}, {"x": inputs(2, 1)})
    expected = answers(in_onnxruntime(original), batches)
    opened = in_openvino_float32(original)
    assert expected.shape == (5, WIDTH)
    assert torch.allclose(answers(opened, batches), expected, rtol=1e-4, atol=1e-3)
    assert opened.floats_as == "float32"
    assert in_openvino(original).floats_as in ("float32", "bfloat16", "float16")


def test_files_take_turns_one_way_and_the_other():
    order = []

    def named(name):
        return Opened(lambda _: order.append(name) or np.zeros(1), "float32")

    found = seconds_in_turns({"a": named("a"), "b": named("b")}, {"x": torch.zeros(1)})
    assert "".join(order[:10]) == "ab" + "abbaabba"
    assert len(found["a"]) == len(found["b"]) == order.count("a") - 1


def test_times_faster_is_of_the_ratios_and_not_of_the_medians():
    before, after = [1.0, 10.0, 3.0, 4.0, 5.0], [0.5, 5.0, 3.0, 1.0, 1.0]
    middle, low, high = times_faster(before, after)
    assert (middle, low, high) == (2.0, 1.5, 4.5)
