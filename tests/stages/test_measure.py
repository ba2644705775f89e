import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from words import encode, ship, words_task

from lilliput.errors import InputError
from lilliput.folders import fresh_folder
from lilliput.records import Plan
from lilliput.runtime.torch_processes import stored_state
from lilliput.runtime.weights_file import write_weights
from lilliput.stages.export import export_weights
from lilliput.stages.measure import Conditions, measure
from lilliput.stages.verify import verify_answers, verify_files

QUICK = Conditions(
    batch=2, threads=1, seconds=0.2, memory_rounds=1, scoring_batch=16, compare=False
)
IN_OPENVINO = replace(QUICK, runtime="openvino", compare=True)
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="an extra")


@pytest.fixture(scope="module")
def measured(shipped):
    proof = shipped.task.split(0).proof
    found = measure(
        shipped.bindings.original.path,
        shipped.folder,
        task=shipped.task,
        proof=proof,
        conditions=QUICK,
    )
    return (*found, proof)


def test_scores_are_those_of_the_files_own_outputs(shipped, measured):
    measurement, evidence, proof = measured
    right = [[], []]
    with torch.no_grad():
        for index in evidence.indices:
            example = shipped.task.example(int(index))
            inputs = {name: value[None] for name, value in example.input.items()}
            replaced = {n: e.decode() for n, e in shipped.encodings.items()}
            before = shipped.task.model.eval()(**inputs)[1]
            after = torch.func.functional_call(shipped.task.model, replaced, (), inputs)[1]
            for column, scores in zip(right, (before, after), strict=True):
                column.append(float(scores.argmax() == example.target))
    assert sorted(evidence.indices) == sorted(proof)
    np.testing.assert_array_equal(evidence.original[:, 0], right[0])
    np.testing.assert_array_equal(evidence.artifact[:, 0], right[1])
    assert measurement.original.score == pytest.approx(np.mean(right[0]))
    assert measurement.artifact.score == pytest.approx(np.mean(right[1]))
    targets = [shipped.task.example(int(i)).target for i in evidence.indices]
    assert evidence.labels == tuple(map(str, targets))
    assert evidence.proof_hash == shipped.task.proof_hash(proof)


def test_sizes_are_those_of_the_files(shipped, measured):
    measurement = measured[0]
    files = shipped.exported.artifact.files
    assert measurement.artifact.storage_bytes == files["model.lilliput"].bytes
    assert measurement.artifact.installed_bytes == files["model.onnx"].bytes
    original = shipped.bindings.original.path.stat().st_size
    assert measurement.original.storage_bytes == measurement.original.installed_bytes == original
    own = sum(p.numel() for p in shipped.task.model.parameters())
    assert own <= measurement.original.parameters <= own + 4
    assert measurement.original.macs == measurement.artifact.macs == 64 * 128 + 128 * 4


def test_costs_are_measured_under_stated_conditions(measured):
    measurement = measured[0]
    for sizes in (measurement.original, measurement.artifact):
        assert sizes.latency_ms.batch == 2 and sizes.latency_ms.threads == 1
        assert 0 < sizes.latency_ms.p50 <= sizes.latency_ms.p95
        assert sizes.memory_bytes > 0
    ratio, lower, upper = measurement.latency_ratio
    assert lower <= ratio <= upper and measurement.memory_ratio[0] > 0


def test_without_targets_the_original_is_the_reference(tmp_path: Path):
    task = words_task(60, labelled=False)
    coarse = ship(task, tmp_path / "out", levels=2)
    proof = task.split(0).proof
    measurement, evidence = measure(
        coarse.bindings.original.path, coarse.folder, task=task, proof=proof, conditions=QUICK
    )
    assert measurement.original.score == 1 and measurement.artifact.score < 1
    agree = evidence.original_classes == evidence.artifact_classes
    np.testing.assert_array_equal(evidence.artifact[:, 0], agree)
    assert evidence.labels == tuple(map(str, evidence.original_classes))
    measurement, evidence = measure(
        coarse.bindings.original.path, coarse.folder, task=task, proof=(), conditions=QUICK
    )
    assert evidence is None and measurement.artifact.score is None
    assert measurement.artifact.storage_bytes > 0 and measurement.artifact.latency_ms.p50 > 0


def test_the_weights_only_path_is_measured_in_pytorch(tmp_path: Path):
    task = words_task(60)
    encodings = encode(task.model, 2)
    original = tmp_path / "original.onnx"
    write_weights(stored_state(task.model), {}, original)
    with fresh_folder(tmp_path / "out") as folder:
        exported = export_weights(
            encodings, model=task.model, plan=Plan(model_hash="0", steps=()), folder=folder
        )
    folder = tmp_path / "out"
    assert verify_files(folder) == exported.artifact and exported.artifact.kind == "torch"
    proof = task.split(0).proof
    assert verify_answers(folder, task, encodings=encodings, subset=proof).decibels is None
    measurement, evidence = measure(original, folder, task=task, proof=proof, conditions=QUICK)
    assert 0 <= measurement.artifact.score < measurement.original.score + 1
    assert measurement.artifact.storage_bytes < measurement.artifact.installed_bytes
    own = sum(p.numel() for p in task.model.parameters())
    assert measurement.original.parameters == measurement.artifact.parameters == own
    assert measurement.artifact.latency_ms.p50 > 0 and measurement.artifact.macs is None
    assert len(evidence.original) == len(proof)


@needs_openvino
def test_every_installed_runtime_is_scored_and_held_against_the_judged_one(shipped, measured):
    proof = shipped.task.split(0).proof
    measurement, evidence = measure(
        shipped.bindings.original.path,
        shipped.folder,
        task=shipped.task,
        proof=proof,
        conditions=IN_OPENVINO,
    )
    judged, other = measurement.runtimes
    assert (judged.name, other.name) == ("openvino", "onnxruntime")
    assert judged.agreement is None and judged.precision in {"float32", "bfloat16"}
    assert measurement.artifact.score == judged.artifact_score == evidence.artifact.mean()
    assert measurement.original.score == judged.original_score == evidence.original.mean()
    assert measurement.artifact.latency_ms.p50 > 0 and measurement.artifact.memory_bytes > 0
    assert other.artifact_score == measured[0].artifact.score and other.precision == "float32"
    assert other.agreement.examples == len(proof) and other.agreement.largest_difference < 0.1
    assert 0 <= other.changed <= len(proof) // 4
    assert [score.name for score in measured[0].runtimes] == ["onnxruntime"]


@needs_openvino
def test_a_file_that_the_runtime_cannot_open_is_said_and_not_raised(shipped, tmp_path):
    shutil.copytree(shipped.folder, tmp_path / "out")
    broken = onnx.load(tmp_path / "out" / "model.onnx")
    broken.graph.node[-1].domain = "acme"
    broken.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    onnx.save(broken, tmp_path / "out" / "model.onnx")
    measurement, evidence = measure(
        shipped.bindings.original.path,
        tmp_path / "out",
        task=shipped.task,
        proof=shipped.task.split(0).proof,
        conditions=IN_OPENVINO,
    )
    assert evidence is None and measurement.artifact.latency_ms is None
    assert measurement.problem.startswith("OpenVINO cannot open the artifact: ")
    assert "acme" in measurement.problem and "ONNX Runtime" in measurement.runtimes[1].problem
    assert measurement.artifact.installed_bytes > 0 and measurement.artifact.score is None


@needs_openvino
def test_another_runtime_cannot_run_bare_weights(tmp_path):
    task = words_task(12)
    write_weights(stored_state(task.model), {}, tmp_path / "original.onnx")
    with fresh_folder(tmp_path / "out") as folder:
        plan = Plan(model_hash="0", steps=())
        export_weights({}, model=task.model, plan=plan, folder=folder)
    with pytest.raises(InputError, match="only PyTorch can run"):
        measure(
            tmp_path / "original.onnx",
            tmp_path / "out",
            task=task,
            proof=(),
            conditions=replace(QUICK, runtime="openvino"),
        )
