import itertools
import subprocess
import sys

import numpy as np
import onnx
import pytest

from lilliput.errors import ContainerError, InternalError
from lilliput.runtime.interleaved import Turns, latency_turns, memory_turns, write_one_addition
from lilliput.runtime.processes import Worker, clean_environment


def product(path, size, *, repeats=1):
    """A chain of matrix products with one (size, size) weight."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32) / size
    names = ["x", *(f"h{i}" for i in range(repeats - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", kind, ["n", size])],
        [helper.make_tensor_value_info("y", kind, ["n", size])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path, weight


def test_outputs_are_streamed_batch_by_batch(tmp_path):
    path, weight = product(tmp_path / "m.onnx", 8)
    batches = [[np.full((n, 8), n, np.float32)] for n in (1, 3, 2)]
    with Worker(path, threads=1) as worker:
        taken = []

        def source():
            for batch in batches:
                taken.append(len(taken))
                yield batch

        for number, ([found], [given]) in enumerate(
            zip(worker.stream(source()), batches, strict=False)
        ):
            assert len(taken) == number + 1  # nothing is read ahead
            np.testing.assert_allclose(found, given @ weight, rtol=1e-5)


def test_a_file_that_is_no_model_is_one_line(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ContainerError, match="ONNX Runtime cannot open the file") as caught:
        Worker(path)
    assert "\n" not in str(caught.value)


def test_a_process_that_fails_is_one_line_with_what_it_printed(tmp_path):
    path, _ = product(tmp_path / "m.onnx", 8)
    with (
        Worker(path) as worker,
        pytest.raises(InternalError, match=r"status 1.*dimension") as caught,
    ):
        worker.run([np.ones((1, 7), np.float32)])
    assert "\n" not in str(caught.value)


def test_a_process_that_does_not_answer_is_ended(tmp_path):
    path, _ = product(tmp_path / "m.onnx", 512, repeats=8)
    with (
        Worker(path, threads=1) as worker,
        pytest.raises(InternalError, match=r"did not answer within 0\.5 s"),
    ):
        worker.timeout = 0.5
        worker.milliseconds([np.ones((64, 512), np.float32)], 100_000)


def test_a_killed_process_is_said_to_be_killed(tmp_path):
    path, _ = product(tmp_path / "m.onnx", 8)
    with Worker(path) as worker:
        worker._process.kill()
        with pytest.raises(InternalError, match=r"killed; most likely .* memory"):
            worker.run([np.ones((1, 8), np.float32)])


def test_the_process_imports_no_torch_and_sees_a_clean_environment(monkeypatch):
    monkeypatch.setenv("ORT_SECRET", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    kept = clean_environment()
    assert "ORT_SECRET" not in kept and "OMP_NUM_THREADS" not in kept
    code = "import sys, lilliput.runtime.worker as w; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], env=kept, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


def test_more_work_takes_longer_and_more_weight_more_memory(tmp_path):
    small, _ = product(tmp_path / "small.onnx", 64)
    large, _ = product(tmp_path / "large.onnx", 2048)
    with Worker(small, threads=1) as a, Worker(large, threads=1) as b:
        batch = [np.ones((4, 64), np.float32)], [np.ones((4, 2048), np.float32)]
        assert np.median(b.milliseconds(batch[1], 20)) > np.median(a.milliseconds(batch[0], 20))
        turns = latency_turns((a, a), batch[0], seconds=0.05)
    assert turns.original.shape == turns.artifact.shape and turns.original.shape[0] >= 11
    empty = tmp_path / "empty.onnx", write_one_addition(tmp_path / "empty.onnx")
    openers = [lambda path=path: Worker(path, threads=1) for path in (large, empty[0])]
    memory = memory_turns((openers[0],) * 2, batch[1], (openers[1], empty[1]), rounds=2)
    weight_bytes = 2048 * 2048 * 4
    assert np.all(memory.original > 0.9 * weight_bytes)
    assert np.all(memory.original < 6 * weight_bytes)
    np.testing.assert_allclose(memory.ratios, 1, atol=0.3)


def test_ratios_are_of_the_rounds_medians():
    turns = Turns(np.array([[1.0, 2, 30], [4, 4, 4]]), np.array([[4.0, 4, 4], [2, 2, 90]]))
    assert turns.ratios.tolist() == [2.0, 0.5]


def test_the_empty_graph_runs(tmp_path):
    write_one_addition(tmp_path / "m.onnx")
    with Worker(tmp_path / "m.onnx", threads=1) as worker:
        [found] = worker.run([np.array([2], np.float32)])
        assert found.tolist() == [4] and worker.peak_bytes() > 2**20
