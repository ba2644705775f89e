"""Scores under corruption: of the right outputs, on the same inputs, with the paired bound."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_measure import QUICK
from torch import nn
from words import ship, words_task

from classifiers import Convolutions, task_of, trained
from lilliput.errors import PlanError, TaskError
from lilliput.learning import Policy
from lilliput.stages.corrupted import (
    MOST,
    SEED,
    check_corruptions,
    corruptions_of,
    score_corrupted,
)
from lilliput.stages.measure import Conditions, measure
from lilliput.statistics import drop_bound
from lilliput.task import Task

NOISE = "noise(decibels=-3.0)"


def asked(task, models, calls=None):
    """Both models in this process, in the place of two files."""

    def run(arrays):
        if calls is not None:
            calls.append(arrays)
        with torch.no_grad():
            return tuple(task.pick(model(*map(torch.from_numpy, arrays))) for model in models)

    return run


def scored(task, models, text, *, proof=None, calls=None):
    return score_corrupted(
        asked(task, models, calls),
        task,
        proof=range(len(task)) if proof is None else proof,
        corruptions=corruptions_of(task, text),
        batch_size=64,
    )


@pytest.fixture(scope="module")
def pair():
    """A trained network and the same with coarse weights."""
    original = trained(Convolutions)
    coarse = trained(Convolutions)
    for weight in coarse.parameters():
        step = weight.detach().abs().max() / 2
        weight.data = (weight.detach() / step).round() * step
    return original, coarse


def test_the_rows_are_those_of_the_corrupted_inputs(pair):
    task = task_of(pair[0], 300)
    (found,) = scored(task, pair, NOISE)
    generator, rows = torch.Generator().manual_seed(SEED), ([], [])
    for batch in task.batches(range(300), 64):
        inputs = Policy.parse(NOISE)(batch.inputs, generator=generator).inputs
        for column, model in zip(rows, pair, strict=True):
            with torch.no_grad():
                column.append((model(inputs).argmax(1) == batch.targets).double().numpy()[:, None])
    before, after = map(np.concatenate, rows)
    bound = drop_bound(before, after, task.resolve_metric(torch.zeros(2, 4)))
    assert (found.original_score, found.artifact_score) == (before.mean(), after.mean())
    assert found.drop == pytest.approx(before.mean() - after.mean())
    assert found.drop < found.upper == bound.upper and bound.method == "score"
    assert (found.corruption, found.examples, found.confidence) == (NOISE, 300, 0.95)
    (plain,) = scored(task, pair, "rotate(degrees=0.0)")
    assert plain.original_score > found.original_score + 0.05


def test_at_most_so_many_examples_spread_over_the_proof(pair):
    task, calls = task_of(pair[0], 1300), []
    found = scored(task, pair, "flip, noise", proof=range(100, 1300), calls=calls)
    assert [score.examples for score in found] == [MOST, MOST]
    seen = torch.cat([torch.from_numpy(arrays[0]) for arrays in calls[::3]])
    places = [
        next(i for i in range(100, 1300) if torch.equal(task.example(i).input, image))
        for image in seen[::50]
    ]
    assert len(seen) == MOST and max(places) > 1000 and min(places) < 250
    assert found == scored(task, pair, "flip, noise", proof=range(100, 1300)), "deterministic"


def test_without_targets_answers_are_held_against_those_to_inputs_as_they_are(pair):
    labelled = task_of(pair[0], 200)
    images = [labelled.example(place).input for place in range(200)]
    task = Task(model=pair[0], examples=images)
    (found,) = scored(task, (pair[0], pair[0]), NOISE)
    assert found.original_score == found.artifact_score < 1 and found.drop == 0
    (gentle,) = scored(task, (pair[0], pair[0]), "noise(decibels=60.0)")
    assert gentle.original_score > 0.99
    per_pixel = Task(model=nn.Conv2d(1, 3, 1), examples=images)
    assert "rotate" not in " ".join(map(str, corruptions_of(per_pixel, "auto")))


def test_answers_of_another_shape_are_not_compared(pair):
    task = task_of(pair[0], 60)
    steps, shapes = corruptions_of(task, "noise"), iter((4, 5))

    def run(arrays):
        return (torch.rand(len(arrays[0]), next(shapes)),) * 2

    assert score_corrupted(run, task, proof=range(60), corruptions=steps, batch_size=64) == ()
    found = score_corrupted(
        lambda arrays: None, task, proof=range(60), corruptions=steps, batch_size=64
    )
    assert found == (), "files that cannot be run"


def test_few_examples_have_no_bound_but_a_score(pair):
    classes = task_of(pair[0], 60, metric="f1-macro")
    (found,) = scored(classes, pair, "noise")
    assert found.upper is None and found.drop is not None and found.examples == 60


def test_what_is_asked_for_is_checked_before_work_begins(pair):
    for wrong, told in (("nois", "did you mean noise"), ("rotate(degrees=999)", "nearest is 180")):
        with pytest.raises(PlanError, match=told):
            Conditions(generalize=wrong)
    with pytest.raises(TaskError, match=r"mixup mixes examples"):
        check_corruptions("noise, mixup")
    with pytest.raises(TaskError, match=r"gain takes one input of waveforms"):
        corruptions_of(task_of(pair[0], 60), "gain")
    table = Task(model=nn.Linear(9, 2), examples=[torch.randn(9) for _ in range(60)])
    assert corruptions_of(table, "auto") == corruptions_of(table, "none") == ()
    assert [str(step) for step in corruptions_of(table, "noise")] == ["noise"]


def test_measured_on_the_shipped_files(tmp_path: Path):
    """Texts by themselves are shortened and disturbed; the rows are those of the files."""
    task = words_task(160)
    shipped = ship(task, tmp_path / "out", levels=2)
    proof = task.split(0).proof

    def measured(conditions):
        original = shipped.bindings.original.path
        return measure(original, shipped.folder, task=task, proof=proof, conditions=conditions)[0]

    found = measured(QUICK)
    names = [score.corruption for score in found.generalization]
    assert names == ["drop_tokens(rate=0.15)", "mask_tokens(rate=0.15)"]
    assert {score.examples for score in found.generalization} == {len(proof)}
    decoded = {name: encoding.decode() for name, encoding in shipped.encodings.items()}

    def run(arrays):
        inputs = dict(zip(("tokens", "attention_mask"), map(torch.from_numpy, arrays), strict=True))
        with torch.no_grad():
            after = torch.func.functional_call(task.model, decoded, (), inputs)
            return task.model(**inputs)[1], after[1]

    right = score_corrupted(
        run, task, proof=proof, corruptions=corruptions_of(task, "auto"), batch_size=16
    )
    assert found.generalization == right
    off = measured(replace(QUICK, generalize="none"))
    assert off.generalization == () and off.artifact.score == found.artifact.score
