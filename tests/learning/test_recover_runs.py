"""Recovery inside `compress`, quantization-aware training, and their replays."""

import json

import pytest
import torch
from clothes import Small, clothes, needs_data

import lilliput
from lilliput.errors import PlanError, TrainingError
from lilliput.learning.recovery import Recover
from lilliput.model.hashes import state_hash
from lilliput.plans import read_plan
from lilliput.quantizing import rounding_plan
from lilliput.records import Plan, Step
from lilliput.runs import Settings
from lilliput.stages.measure import Conditions

pytestmark = [needs_data, pytest.mark.slow]

QUICK = Conditions(threads=1, seconds=0.1, memory_rounds=1, scoring_batch=256)
FILES = ("model.onnx", "model.lilliput", "model.safetensors", "plan.toml")
LIMIT = 0.09


def quick(**changes):
    return Settings(conditions=QUICK, **changes)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def recovered(tmp_path_factory):
    """Task, hash before, the report and the folder of a run that learned back."""
    task, out = clothes(), tmp_path_factory.mktemp("recovered") / "out"
    before, told = state_hash(task.model), []
    settings = quick(
        recover=Recover(minutes=0.05, strength="light"), progress=lambda *seen: told.append(seen)
    )
    report = lilliput.compress(task, lilliput.Budget(storage=LIMIT), out=out, settings=settings)
    return task, before, report, out, told


def test_the_report_says_what_recovery_did_and_the_limit_holds(recovered):
    task, before, report, out, told = recovered
    found = report.recovery
    assert found.kept and found.strength == "light" and found.watched == "divergence"
    assert found.after < found.before and found.steps >= 1 and found.seconds > 0
    (limit,) = report.limits
    assert limit.name == "storage" and limit.verdict == "proved"
    assert report.artifact.storage_bytes == report.plan.predicted_storage_bytes
    assert report.artifact.storage_bytes <= LIMIT * report.original.storage_bytes
    assert report.fidelity.decibels > 90
    assert report.seconds["recover"] > 0 and ("recovering", 1, found.steps) in told
    assert state_hash(task.model) == before
    page = (out / "report.html").read_text()
    assert "scales, biases and norms learned" in page.replace("\n", " ")
    assert json.loads((out / "report.json").read_text())["recovery"]["kept"] is True


def test_the_plan_names_its_steps_and_replays_to_the_same_bytes(recovered, tmp_path):
    task, _, report, out, _ = recovered
    plan = read_plan(out / "plan.toml")
    last = plan.steps[-1]
    assert last.technique == "learn_recovery" and last.where == ()
    assert last.settings.get("steps", 300) == report.recovery.steps
    again = lilliput.apply_plan(plan, task, out=tmp_path / "again", settings=quick())
    assert contents(tmp_path / "again") == contents(out)
    assert again.recovery.after == report.recovery.after


def test_the_users_class_answers_as_the_file_does(recovered):
    task, _, report, out, _ = recovered
    net = lilliput.load(out, model=Small()).eval()
    rows = [
        net(batch.inputs).argmax(1) == batch.targets
        for batch in task.batches(task.split(0).proof, 256)
    ]
    assert float(torch.cat(rows).float().mean()) == pytest.approx(report.artifact.score, abs=1e-3)


def test_full_recovery_of_a_pruned_plan_keeps_what_was_removed(tmp_path):
    task = clothes()
    names = ("second.weight", "hidden.weight")
    steps = (
        Step(technique="prune_magnitude", where=names, settings={"amount": 0.8}),
        Step(technique="quantize_round", where=names, settings={"bits": 4}),
        Step(
            technique="learn_recovery",
            where=(),
            settings={"strength": "full", "steps": 40, "rate": 1e-3},
        ),
    )
    plan = rounding_plan(task, bits=4).model_copy(update={"steps": steps})
    report = lilliput.apply_plan(plan, task, out=tmp_path / "out", settings=quick())
    assert report.recovery.kept and report.recovery.after < 0.5 * report.recovery.before
    net = lilliput.load(tmp_path / "out", model=Small())
    for name in names:
        zeros = float((net.get_parameter(name) == 0).float().mean())
        assert zeros >= 0.8 - 1e-3


def test_labels_that_led_away_from_the_answers_are_named(tmp_path):
    task = clothes()
    settings = quick(recover=Recover(strength="full", steps=3, rate=9.0))
    report = lilliput.quantize_aware(task, bits=8, out=tmp_path / "out", settings=settings)
    assert not report.recovery.kept
    assert report.recovery.notes[-1].endswith("labels=0 learns the answers alone")


def test_what_does_not_help_is_not_kept(tmp_path):
    task = clothes()
    plan = rounding_plan(task, bits=8)
    said = []
    settings = quick(recover=Recover(steps=3, rate=9.0), said=said.append)
    report = lilliput.apply_plan(plan, task, out=tmp_path / "out", settings=settings)
    assert not report.recovery.kept and report.recovery.notes[-1].endswith("nothing was kept")
    assert [step.technique for step in report.plan.steps] == ["quantize_round"]
    assert any("nothing was kept" in line for line in said)
    plain = lilliput.apply_plan(plan, task, out=tmp_path / "plain", settings=quick())
    assert contents(tmp_path / "plain") == contents(tmp_path / "out")
    assert plain.recovery is None


def test_nothing_comes_after_recovery():
    steps = (
        Step(technique="learn_recovery", where=()),
        Step(technique="quantize_round", where=("head.weight",)),
    )
    plan = Plan(model_hash=rounding_plan(clothes(), bits=4).model_hash, steps=steps)
    with pytest.raises(PlanError, match="learn_recovery is not the last step"):
        lilliput.apply_plan(plan, clothes(), out="never")


def test_two_bits_are_trained_shipped_and_near_the_original(tmp_path):
    task = clothes()
    settings = quick(recover=Recover(strength="full", steps=150))
    report = lilliput.quantize_aware(task, bits=2, out=tmp_path / "out", settings=settings)
    assert report.recovery.kept and report.recovery.strength == "full"
    assert report.artifact.score > report.original.score - 0.03
    assert report.artifact.storage_bytes < 0.25 * report.original.storage_bytes
    net = lilliput.load(tmp_path / "out", model=Small())
    matrix = net.hidden.weight.detach()
    levels = {len(row.unique()) for row in matrix}
    assert max(levels) <= 3
    again = lilliput.apply_plan(
        read_plan(tmp_path / "out" / "plan.toml"), task, out=tmp_path / "again", settings=quick()
    )
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    assert again.recovery.kept


def test_activations_are_trained_as_the_artifact_rounds_them(tmp_path):
    task = clothes()
    settings = quick(recover=Recover(strength="full", steps=60, rate=3e-4))
    report = lilliput.quantize_aware(
        task, bits=7, activations=8, out=tmp_path / "out", settings=settings
    )
    assert report.recovery.watched == "divergence"
    assert report.artifact.score > report.original.score - 0.02
    assert not report.recovery.kept or report.recovery.after < report.recovery.before


def test_training_needs_examples_and_widths_that_exist(tmp_path):
    with pytest.raises(TrainingError, match=r"search examples|training examples|learn from"):
        lilliput.quantize_aware(
            clothes(train=None, calibration=(), search=()), out=tmp_path / "a", settings=quick()
        )
    with pytest.raises(PlanError, match="bits = 1"):
        lilliput.quantize_aware(clothes(), bits=1, out=tmp_path / "b", settings=quick())
    with pytest.raises(PlanError, match="bits = 4"):
        lilliput.quantize_aware(clothes(), bits=4, activations=8, out=tmp_path / "c")


def test_an_interrupted_run_goes_on_from_its_last_checkpoint(recovered, tmp_path):
    task, _, _, out, _ = recovered
    plan, beside = read_plan(out / "plan.toml"), tmp_path / ".again.recovery"
    last = plan.steps[-1].model_copy(update={"settings": {"steps": 40}})
    plan = plan.model_copy(update={"steps": (*plan.steps[:-1], last)})
    first = lilliput.apply_plan(plan, task, out=tmp_path / "first", settings=quick())
    assert first.recovery.kept

    def interrupt(stage, done, total):
        if stage == "recovering" and done == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        settings = quick(progress=interrupt)
        lilliput.apply_plan(plan, task, out=tmp_path / "again", settings=settings)
    assert beside.exists() and not (tmp_path / "again").exists()
    said = []
    lilliput.apply_plan(plan, task, out=tmp_path / "again", settings=quick(said=said.append))
    assert "went on from step 28 of 40" in said
    assert contents(tmp_path / "again") == contents(tmp_path / "first") and not beside.exists()
