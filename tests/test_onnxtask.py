"""An ONNX file from its first byte to a verdict, and every way in which it can be wrong."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import lilliput
from graphs import graph, node, weight, written
from lilliput.errors import CaptureError, CheckpointError, OutputError, PlanError, TaskError
from lilliput.folders import PLAN
from lilliput.onnxtask import simplify_file
from lilliput.plans import read_plan
from lilliput.runs import Settings
from lilliput.stages.measure import Conditions

QUICK = Settings(conditions=Conditions(seconds=0.2, memory_rounds=5, threads=1))
COUNT = 400


def classifier(seed: int = 0, *, hidden: int = 64, batch: int | str = "N") -> onnx.ModelProto:
    """Convolution, norm, a recurrent layer and a head; six classes of noise with a pattern."""
    weights = {
        "conv.weight": weight(hidden, 8, 3, seed=seed) / 5,
        "gamma": np.ones(hidden, np.float32) * 1.5,
        "beta": weight(hidden, seed=seed + 1) / 5,
        "mean": weight(hidden, seed=seed + 2) / 5,
        "var": np.ones(hidden, np.float32) * 2,
        "lstm.W": weight(2, 128, hidden, seed=seed + 3) / 8,
        "lstm.R": weight(2, 128, 32, seed=seed + 4) / 6,
        "lstm.B": weight(2, 256, seed=seed + 5) / 10,
        "head": weight(64, 6, seed=seed + 6),
        "bias": weight(6, seed=seed + 7) / 10,
        "last": np.array([-1], np.int64),
        "axis": np.array([2], np.int64),
        "sizes": np.array([0, 64], np.int64),
    }
    nodes = [
        node("Identity", "x", "x2"),
        node("Conv", "x2 conv.weight", "c", pads=[1, 1]),
        node("BatchNormalization", "c gamma beta mean var", "n"),
        node("Relu", "n", "r"),
        node("Transpose", "r", "steps", perm=[2, 0, 1]),
        node(
            "LSTM", "steps lstm.W lstm.R lstm.B", "Y h", hidden_size=32, direction="bidirectional"
        ),
        node("Transpose", "h", "h2", perm=[1, 0, 2]),
        node("Reshape", "h2 sizes", "flat"),
        node("Gemm", "flat head bias", "scores"),
    ]
    made = graph(nodes, {"x": [batch, 8, 12]}, ["scores"], weights=weights)
    if batch == 1:
        made.graph.initializer[-1].CopyFrom(
            onnx.numpy_helper.from_array(np.array([1, 64], np.int64), "sizes")
        )
    return made


def inputs(count: int = COUNT) -> np.ndarray:
    return weight(count, 8, 12, seed=99)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, lilliput.Report]:
    """The file, the output folder and the report of one run."""
    folder = tmp_path_factory.mktemp("onnx")
    file = written(classifier(), folder / "net.onnx")
    task = lilliput.onnx_task(file, list(inputs()))
    report = lilliput.compress(
        task, lilliput.Budget(storage="35%"), out=folder / "out", settings=QUICK
    )
    return file, folder / "out", report


def test_a_file_is_compressed_and_judged_without_labels(finished):
    file, out, report = finished
    assert report.original.storage_bytes == file.stat().st_size
    assert report.artifact.storage_bytes <= 0.35 * file.stat().st_size
    assert report.verdict == "proved" and report.artifact.score > 0.9
    assert report.drop is None or report.drop.metric == "agreement"
    assert report.fidelity.decibels is None or report.fidelity.decibels > 90
    kinds = {site.name: (site.kind, site.encoding) for site in report.sites}
    assert kinds["lstm.W"] == kinds["lstm.R"] == ("recurrent", "grid")
    assert kinds["head"] == ("linear", "grid") and kinds["conv.weight"] == ("conv", "grid")
    assert not any("stored as float" in warning for warning in report.warnings)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    x = inputs(5)
    assert session.run(None, {"x": x})[0].shape == (5, 6)
    held = {tensor.name for tensor in onnx.load(out / "model.onnx").graph.initializer}
    assert {"lstm.W.codes", "lstm.R.codes", "conv.weight.codes", "head.codes"} <= held


def test_the_artifact_says_that_it_holds_no_weights_for_pytorch(finished):
    _, out, report = finished
    assert set(report.files) == {"model.onnx", "model.lilliput", "plan.toml"}
    with pytest.raises(CheckpointError, match="was made from an ONNX file"):
        lilliput.load(out, model=torch.nn.Linear(2, 2))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "before its weights were stored as integers" in " ".join(page.split())


def test_a_plan_is_replayed_on_another_file_of_the_same_architecture(finished, tmp_path):
    _, out, _ = finished
    plan = read_plan(out / PLAN)
    other = lilliput.onnx_task(written(classifier(50), tmp_path / "b.onnx"), list(inputs()))
    report = lilliput.apply_plan(plan, other, out=tmp_path / "again", settings=QUICK)
    assert report.plan == plan and (tmp_path / "again" / "model.lilliput").exists()
    wide = written(classifier(hidden=48), tmp_path / "c.onnx")
    strange = lilliput.onnx_task(wide, list(inputs()))
    with pytest.raises(PlanError, match="another architecture"):
        lilliput.apply_plan(plan, strange, out=tmp_path / "no", settings=QUICK)
    assert not (tmp_path / "no").exists()


def test_an_output_folder_is_verified_against_the_file(finished):
    file, out, report = finished
    task = lilliput.onnx_task(file, list(inputs()))
    judged = lilliput.verify(out, task, settings=QUICK)
    assert judged.artifact.storage_bytes == report.artifact.storage_bytes
    assert judged.artifact.score == report.artifact.score


def test_external_data_counts_in_the_baseline(tmp_path):
    model = classifier()
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    assert (tmp_path / "m.onnx").stat().st_size < 5000
    task = lilliput.onnx_task(tmp_path / "m.onnx", list(inputs(8)))
    baseline = task.model.baseline_in(tmp_path)
    assert baseline.stat().st_size > 100_000 and baseline.parent == tmp_path


def test_half_precision_stays_half_precision(tmp_path):
    half = weight(40, 60, kind="float16")
    nodes = [node("MatMul", "x w", "y")]
    kinds = {"x": onnx.TensorProto.FLOAT16, "y": onnx.TensorProto.FLOAT16}
    model = graph(nodes, {"x": ["N", 40]}, ["y"], weights={"w": half}, kinds=kinds)
    file = written(model, tmp_path / "m.onnx")
    task = lilliput.onnx_task(file, list(weight(120, 40, seed=5)))
    out = tmp_path / "out"
    report = lilliput.compress(task, lilliput.Budget(storage="70%"), out=out, settings=QUICK)
    assert report.artifact.score > 0.9
    assert report.fidelity.decibels is None or report.fidelity.decibels > 40
    answer = onnxruntime.InferenceSession(out / "model.onnx").run(None, {"x": half.T[:3]})
    assert answer[0].dtype == np.float16


def test_a_fixed_batch_of_one_is_run_one_by_one(tmp_path):
    file = written(classifier(batch=1), tmp_path / "m.onnx")
    task = lilliput.onnx_task(file, list(inputs(12)))
    assert task.notes == ("x fixes the batch at 1, so examples are run one by one",)
    assert [len(batch) for batch in task.batches(range(5), 32)] == [1] * 5
    many = Settings(conditions=Conditions(batch=4))
    with pytest.raises(TaskError, match=r"takes 1 example\(s\) at once, so not a batch of 4"):
        lilliput.compress(task, out=tmp_path / "out", settings=many)
    assert not (tmp_path / "out").exists()
    fixed = written(classifier(batch=3), tmp_path / "three.onnx")
    with pytest.raises(
        TaskError, match=r"fixes its batch at 3: it takes x \(float32, 3 x 8 x 12\)"
    ):
        lilliput.onnx_task(fixed, list(inputs(12)))


def stateful() -> onnx.ModelProto:
    """A state with the batch on its second axis, and a rate for the whole batch."""
    nodes = [
        node("Gather", "state first", "s", axis=0),
        node("MatMul", "x w", "h"),
        node("Add", "h s", "hs"),
        node("Cast", "rate", "r", to=1),
        node("Mul", "hs r", "y"),
    ]
    weights = {"w": weight(20, 16), "first": np.array(0, np.int64)}
    sizes = {"x": ["N", 20], "state": [2, "N", 16], "rate": []}
    return graph(nodes, sizes, ["y"], weights=weights, kinds={"rate": onnx.TensorProto.INT64})


def test_states_and_shared_inputs_go_with_their_examples(tmp_path):
    file = written(stateful(), tmp_path / "m.onnx")
    x, states = weight(6, 20), weight(6, 2, 16, seed=1)
    same = [{"rate": 3, "x": x[i], "state": states[i]} for i in range(6)]
    task = lilliput.onnx_task(file, same)
    batch = next(task.batches(range(6), 6))
    expected = (x @ weight(20, 16) + states[:, 0]) * 3
    assert np.allclose(task.predict(task.model, batch.inputs)[:, 0], expected[:, 0], rtol=1e-3)
    unlike = [{**example, "rate": i} for i, example in enumerate(same)]
    alone = lilliput.onnx_task(file, unlike)
    assert alone.notes == ("rate without a batch axis varies, so examples are run one by one",)
    assert [len(batch) for batch in alone.batches(range(6), 6)] == [1] * 6


def test_inputs_that_do_not_fit_name_what_is_expected(tmp_path):
    file = written(stateful(), tmp_path / "m.onnx")
    good = {"x": weight(20), "state": weight(2, 16), "rate": 3}
    for wrong, told in {
        "rate": r"no rate \(int64, one number\)",
        "x": r"no x \(float32, any x 20\)",
    }.items():
        some = {name: value for name, value in good.items() if name != wrong}
        with pytest.raises(TaskError, match=told):
            lilliput.onnx_task(file, [some])
    with pytest.raises(TaskError, match="give the ONNX graph volume, which it does not take"):
        lilliput.onnx_task(file, [{**good, "volume": 1}])
    with pytest.raises(TaskError, match=r"x has shape \(21,\)"):
        lilliput.onnx_task(file, [{**good, "x": weight(21)}])
    with pytest.raises(TaskError, match="rate is given as float64"):
        lilliput.onnx_task(file, [{**good, "rate": 3.0}])
    with pytest.raises(TaskError, match="no state"):
        lilliput.onnx_task(file, [weight(20)])
    with pytest.raises(TaskError, match="there are no examples"):
        lilliput.onnx_task(file, [])


def test_own_subsets_and_the_users_sequence(tmp_path):
    file = written(classifier(), tmp_path / "m.onnx")
    some = list(inputs(30))
    task = lilliput.onnx_task(file, some, proof=list(weight(10, 8, 12, seed=5)), name="mine")
    split = task.split()
    assert (len(task), len(split.proof), task.name) == (40, 10, "mine")
    assert next(task.batches(split.proof, 10)).inputs["x"].shape == (10, 8, 12)

    class Broken(list):
        def __getitem__(self, index):
            raise OSError("the disk is gone")

    with pytest.raises(TaskError, match=r"examples\[0\] failed: OSError: the disk is gone"):
        lilliput.onnx_task(file, Broken(some))


def test_the_report_says_how_the_graph_was_simplified(finished):
    _, _, report = finished
    (said,) = [line for line in report.warnings if line.startswith("the graph was simplified")]
    assert "identities and dropout removed (1 nodes)" in said
    assert "batch norms folded into convolutions (1 nodes)" in said


def test_negative_ids_are_looked_up_from_the_end(tmp_path):
    kinds = {"ids": onnx.TensorProto.INT64}
    nodes = [node("Gather", "w ids", "h"), node("ReduceSum", "h axis", "y", keepdims=0)]
    weights = {"w": weight(40, 10), "axis": np.array([1], np.int64)}
    model = graph(nodes, {"ids": ["N", 3]}, ["y"], weights=weights, kinds=kinds)
    ids = [np.array([i % 40 - 20, i % 7, -1]) for i in range(200)]
    task = lilliput.onnx_task(written(model, tmp_path / "m.onnx"), ids)
    out = tmp_path / "out"
    report = lilliput.compress(task, lilliput.Budget(storage="60%"), out=out, settings=QUICK)
    assert [site.kind for site in report.sites] == ["embedding"]
    assert report.artifact.score > 0.9


def test_values_that_are_no_numbers_are_refused(tmp_path):
    model = classifier()
    broken = np.full((6,), np.nan, np.float32)
    index = next(i for i, t in enumerate(model.graph.initializer) if t.name == "bias")
    model.graph.initializer[index].CopyFrom(onnx.numpy_helper.from_array(broken, "bias"))
    task = lilliput.onnx_task(written(model, tmp_path / "m.onnx"), list(inputs(40)))
    with pytest.raises(TaskError, match="parameter bias holds NaN"):
        lilliput.compress(task, out=tmp_path / "out", settings=QUICK)
    assert not (tmp_path / "out").exists()


def test_an_onnx_file_has_no_parts(tmp_path):
    task = lilliput.onnx_task(written(classifier(), tmp_path / "m.onnx"), list(inputs(40)))
    with pytest.raises(CaptureError, match="has no parts"):
        lilliput.compress(task, out=tmp_path / "out", settings=Settings(part="head"))


def test_a_file_is_simplified_with_and_without_inputs(tmp_path):
    file = written(classifier(), tmp_path / "m.onnx")
    for name, examples in (("given", list(inputs(3))), ("made up", None)):
        out = tmp_path / f"{name}.onnx"
        done = simplify_file(file, out, examples=examples)
        assert done.removed["identities and dropout removed"] == 1
        assert done.removed["batch norms folded into convolutions"] == 1
        answers = [
            onnxruntime.InferenceSession(path).run(None, {"x": inputs(4)})[0]
            for path in (file, out)
        ]
        assert np.abs(answers[0] - answers[1]).max() < 1e-5
    with pytest.raises(OutputError, match="exists"):
        simplify_file(file, out)
    with pytest.raises(OutputError, match="exists"):
        simplify_file(file, file, force=True)
    simplify_file(file, out, force=True)


def test_a_graph_that_no_made_up_input_fits_asks_for_some(tmp_path):
    nodes = [node("MatMul", "x v", "h"), node("MatMul", "h w", "y")]
    weights = {"v": weight(7, 3), "w": weight(3, 5)}
    file = written(graph(nodes, {"x": ["N", "M"]}, ["y"], weights=weights), tmp_path / "m.onnx")
    with pytest.raises(TaskError, match="no made-up input fits"):
        simplify_file(file, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_outputs_without_a_declared_shape_are_written(tmp_path):
    model = graph([node("NonZero", "x", "y")], {"x": ["N", 4]}, ["y"], weights={})
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    simplify_file(written(model, tmp_path / "m.onnx"), tmp_path / "out.onnx")
    onnxruntime.InferenceSession(tmp_path / "out.onnx")
