"""What a plan is expected to cost, against files and scores made another way."""

import math
from dataclasses import replace

import pytest
import torch

from classifiers import Perceptron, task_of, trained
from lilliput.budget import Budget
from lilliput.metrics import metric_by_name
from lilliput.model.encodings import LowRank
from lilliput.records import Plan
from lilliput.runs import Settings, prepare
from lilliput.stages.profile import profile
from lilliput.statistics import Bound
from lilliput.techniques import FactorizeSvd, QuantizeDynamic, QuantizeFeedback, QuantizeRound
from lilliput.trials import Trials, _shrunk


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    task = task_of(trained(Perceptron), count=1200)
    run = prepare(task, Budget(drop="2%"), Settings(), tmp_path_factory.mktemp("scratch"))
    return Trials(
        task=task,
        profile=profile(task, run.captured, run.split),
        form=run.form,
        metric=run.metric,
        search=run.split.search,
        proof_size=len(run.split.proof),
    )


def plan_of(trials, technique):
    step = technique.step_of(tuple(trials.profile.sites))
    return Plan(model_hash=trials.profile.model_hash, steps=(step,))


def score(trials, plan):
    """Accuracy on the search examples, one call on all of them."""
    examples = [trials.task.example(i) for i in trials.search]
    images = torch.stack([example.input for example in examples])
    replaced = {name: e.decode() for name, e in trials.encodings(plan).items()}
    with torch.no_grad():
        answers = torch.func.functional_call(trials.task.model, replaced, images).argmax(1)
    hits = [int(a) == e.target for a, e in zip(answers, examples, strict=True)]
    return sum(hits) / len(hits)


def test_sizes_are_those_of_real_files(trials, tmp_path):
    plan = plan_of(trials, QuantizeRound())
    found = trials.sizes(plan)
    exported = trials.form.export(trials.encodings(plan), plan=plan, folder=tmp_path)
    files = exported.artifact.files
    assert found.storage == files["model.lilliput"].bytes
    assert found.installed == files["model.onnx"].bytes


def test_coarser_steps_make_smaller_files(trials):
    plans = [plan_of(trials, QuantizeFeedback(step=step)) for step in (0.1, 0.5, 1.5)]
    sizes = [trials.sizes(plan).storage for plan in plans]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.6 * sizes[0]


def test_what_was_predicted_makes_no_other_plan(trials):
    plan = plan_of(trials, QuantizeRound())
    encodings = trials.encodings(plan)
    predicted = plan.model_copy(update={"predicted_storage_bytes": 5, "predicted_damage": 1.0})
    assert trials.encodings(predicted) is encodings
    assert trials.encodings(plan_of(trials, QuantizeRound(bits=4))) is not encodings


def test_the_expected_drop_follows_the_score(trials):
    mild, harsh = (plan_of(trials, t) for t in (QuantizeRound(), QuantizeFeedback(step=8)))
    original = score(trials, Plan(model_hash=trials.profile.model_hash, steps=()))
    drops = [original - score(trials, plan) for plan in (mild, harsh)]
    expected = [trials.expected_drop(plan) for plan in (mild, harsh)]
    assert drops[0] < 0.01 < 0.1 < drops[1]
    assert drops[0] <= expected[0] < 0.02
    assert expected[1] > 0.5 * drops[1]
    assert trials.expected_drop(mild) == expected[0]


def test_more_proof_examples_narrow_the_bound(trials):
    plan = plan_of(trials, QuantizeRound(bits=3))
    few, many = (replace(trials, proof_size=size) for size in (100, 10_000))
    assert many.expected_drop(plan) < few.expected_drop(plan)


def test_without_examples_nothing_can_be_expected(trials):
    plan = plan_of(trials, QuantizeRound())
    for change in ({"metric": None}, {"search": ()}, {"proof_size": 0}):
        assert replace(trials, **change).expected_drop(plan) == math.inf


@pytest.mark.parametrize("metric", ["accuracy", "agreement"])
def test_the_original_runs_once_however_many_plans_are_tried(trials, metric, monkeypatch):
    fresh = replace(trials, metric=metric_by_name(metric), _divergences={})
    plans = [plan_of(trials, QuantizeRound(bits=bits)) for bits in (3, 5, 6)]
    once = [(fresh.expected_drop(plan), fresh.divergence(plan)) for plan in plans[:1]]
    seen = []
    keep = fresh._outputs
    monkeypatch.setattr(
        fresh, "_outputs", lambda made, on: seen.append(len(made)) or keep(made, on)
    )
    more = [(fresh.expected_drop(plan), fresh.divergence(plan)) for plan in plans[1:]]
    assert seen and all(seen)
    alone = [replace(trials, metric=fresh.metric, _divergences={}) for _ in plans]
    wanted = [(t.expected_drop(p), t.divergence(p)) for t, p in zip(alone, plans, strict=True)]
    assert once + more == wanted


def test_large_outputs_of_the_original_are_not_kept(trials, monkeypatch):
    plan = plan_of(trials, QuantizeRound(bits=3))
    kept, computed = (replace(trials, _divergences={}) for _ in range(2))
    found = kept.divergence(plan), kept.expected_drop(plan)
    monkeypatch.setattr("lilliput.trials.KEPT_BYTES", 100)
    assert (computed.divergence(plan), computed.expected_drop(plan)) == found
    assert kept._originals and not computed._originals


def test_the_model_is_not_touched(trials):
    before = {n: p.detach().clone() for n, p in trials.task.model.named_parameters()}
    trials.expected_drop(plan_of(trials, QuantizeRound(bits=2)))
    assert all(torch.equal(before[n], p) for n, p in trials.task.model.named_parameters())


@pytest.mark.parametrize("flips", [0, 3, 40])
def test_few_flips_are_pulled_toward_what_flips_usually_do(flips):
    def bound(estimate, scale=1):
        return Bound(estimate, None, None, 0.95, "score", 500 * scale, 500 * scale, flips * scale)

    usual = 0.8**2 * max(flips, 1) / 500  # nine of ten answers are right
    for estimate in (-0.02, 0.0, 0.02):
        mean, deviation = _shrunk(bound(estimate), 0.9)
        assert min(estimate, usual) <= mean <= max(estimate, usual)
        assert 0 < deviation < 0.25 * max(flips, 1) / 500
    if flips:  # with more examples the estimate counts for more
        few, many = (abs(_shrunk(bound(0.02, scale), 0.9)[0] - 0.02) for scale in (1, 100))
        assert many < few


def test_a_model_that_is_always_right_loses_what_it_flips():
    found = _shrunk(Bound(0.01, None, None, 0.95, "score", 500, 500, 5), 1.0)
    assert found[0] == pytest.approx(0.01)


def test_rounded_inputs_of_a_factor_count_too(trials):
    names = tuple(n for n, s in trials.profile.sites.items() if s.site.kind == "linear")
    steps = (FactorizeSvd(amount=0.3).step_of(names), QuantizeDynamic().step_of(names))
    plan = Plan(model_hash=trials.profile.model_hash, steps=steps)
    made = trials.encodings(plan)
    assert any(isinstance(made[name], LowRank) for name in names)
    assert not trials.form.computes(made)
    floats = Plan(model_hash=trials.profile.model_hash, steps=steps[:1])
    assert trials.form.computes(trials.encodings(floats))
