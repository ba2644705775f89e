"""`--arithmetic fixed` from end to end: an artifact of integers, measured, judged and verified."""

import json

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import lilliput
from classifiers import CLASSES, SIZE, Convolutions, Perceptron, task_of, trained
from examples import fashion_mnist
from lilliput.errors import InputError
from lilliput.folders import read_manifest
from lilliput.plans import read_plan
from lilliput.runs import Settings
from lilliput.runtime.onnx_fixed import float_values
from lilliput.stages.measure import Conditions
from lilliput.stages.verify import verify_files

pytestmark = pytest.mark.slow

QUICK = Conditions(threads=1, seconds=0.1, memory_rounds=1, scoring_batch=128)
FIXED = Settings(arithmetic="fixed", conditions=QUICK)
ONE_POINT = 0.01


class Residual(nn.Module):
    """Linear layers with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(SIZE * SIZE, 64)
        self.second, self.third = nn.Linear(64, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.first(image.flatten(1)).relu()
        hidden = hidden + self.third(self.second(hidden).relu())
        return self.head(hidden)


@pytest.fixture(scope="module", params=[Convolutions, Residual])
def shipped(request, tmp_path_factory):
    task, out = task_of(trained(request.param)), tmp_path_factory.mktemp("fixed") / "out"
    budget = lilliput.Budget(installed="60%", drop="5%")
    return task, out, lilliput.compress(task, budget, out=out, settings=FIXED)


def test_the_artifact_is_integers_only_and_nearly_as_good(shipped):
    _, out, report = shipped
    assert float_values(onnx.load(out / "model.onnx")) == []
    assert report.verdict == "proved"
    assert report.artifact.score >= report.original.score - ONE_POINT
    assert report.fidelity.decibels > 20
    assert report.artifact.macs >= report.original.macs > 0
    assert report.artifact.installed_bytes < 0.6 * report.original.installed_bytes
    (step,) = report.plan.steps
    assert step.technique == "quantize_fixed_point" and step.settings == {}
    for score in report.runtimes[1:]:  # integers are integers everywhere
        assert score.agreement.largest_difference == 0 and score.changed == 0


def test_the_manifest_and_the_report_say_what_the_integers_stand_for(shipped):
    _, out, report = shipped
    manifest = verify_files(out)
    assert {port.name for port in manifest.fixed} == {*manifest.inputs, *manifest.outputs}
    for port in manifest.fixed:
        assert any(port.name in line and str(port.exponent) in line for line in report.warnings)
    assert json.loads((out / "manifest.json").read_text())["fixed"][0]["exponent"] is not None


def test_verify_and_replay_give_the_same(shipped, tmp_path):
    task, out, report = shipped
    again = lilliput.verify(out, task, settings=Settings(conditions=QUICK))
    assert again.drop == report.drop and again.artifact.score == report.artifact.score
    plan = read_plan(out / "plan.toml")
    lilliput.apply_plan(plan, task, out=tmp_path / "out", settings=FIXED)
    for name in ("model.onnx", "model.lilliput"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()
    assert read_manifest(tmp_path / "out").fixed == read_manifest(out).fixed


def test_pytorch_takes_the_same_weights(shipped):
    """The codes in the file, times their powers of two, are the weights in model.safetensors."""
    task, out, _ = shipped
    model = lilliput.load(out, model=type(task.model)()).eval()
    graph = onnx.load(out / "model.onnx").graph
    held = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    codes = sum(array.size for array in held if array.dtype == np.int8)
    weights = [value for value in model.parameters() if value.dim() > 1]
    assert codes == sum(value.numel() for value in weights)
    if isinstance(model, Residual):
        for value in weights:
            mantissas = torch.frexp(value.abs().amax(1))[0] * 128
            assert torch.equal(mantissas, mantissas.round())


def test_narrower_codes_where_the_file_must_be_smaller(tmp_path):
    task = task_of(trained(Residual))
    budget = lilliput.Budget(storage="12%", drop="50%")
    report = lilliput.compress(task, budget, out=tmp_path / "out", settings=FIXED)
    assert 2 <= report.plan.steps[0].settings["bits"] < 6
    assert {limit.name: limit.verdict for limit in report.limits}["storage"] == "proved"


def test_a_network_it_cannot_take_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"LayerNormalization \(.*\) is not among them"):
        lilliput.compress(task_of(trained(Perceptron)), out=tmp_path / "out", settings=FIXED)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    not fashion_mnist.FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist"
)
def test_pictures_of_clothes_lose_at_most_a_point(tmp_path):
    pictures = fashion_mnist.read("train")
    task = lilliput.Task(
        model=fashion_mnist.train(pictures.part(0, 12_000)),
        metric="accuracy",
        calibration=pictures.part(58_000, 58_256),
        search=pictures.part(59_000, 59_500),
        proof=fashion_mnist.read("t10k"),
    )
    budget = lilliput.Budget(storage="30%", drop="1%")
    report = lilliput.compress(task, budget, out=tmp_path / "out", settings=FIXED)
    assert report.verdict == "proved" and report.drop.upper <= ONE_POINT
    assert float_values(onnx.load(tmp_path / "out" / "model.onnx")) == []
