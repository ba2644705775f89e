"""`apply_plan()` with rounded activations, from end to end, in every runtime that is installed."""

from importlib.util import find_spec

import onnx
import pytest
import torch

import lilliput
from classifiers import Convolutions, pictures, task_of, trained
from lilliput.model.capture import capture
from lilliput.records import Plan
from lilliput.runs import Settings
from lilliput.runtime.sessions import default_session
from lilliput.stages.measure import Conditions
from lilliput.techniques import QuantizeStatic

RUNTIMES = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_small_network_on_integers_is_judged_in_its_runtime(runtime, tmp_path):
    task = task_of(trained(Convolutions))
    captured = capture(task.model, task.sample(2))
    step = QuantizeStatic().step_of(list(captured.sites))
    plan = Plan(model_hash=captured.model_hash, steps=(step,))
    quick = Conditions(threads=1, seconds=0.1, memory_rounds=1, scoring_batch=128, runtime=runtime)
    report = lilliput.apply_plan(
        plan,
        task,
        lilliput.Budget(drop="3%"),
        out=tmp_path / "o",
        settings=Settings(conditions=quick),
    )
    assert report.verdict == "proved"
    assert report.runtimes[0].name == runtime
    images, _ = pictures(400, seed=9)
    session = default_session(tmp_path / "o" / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    with torch.no_grad():
        wanted = task.model(images)
    assert (torch.from_numpy(found).argmax(1) == wanted.argmax(1)).float().mean() > 0.97
    operators = {node.op_type for node in onnx.load(tmp_path / "o" / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators
