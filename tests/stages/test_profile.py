"""The first verb on a small trained network."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from classifiers import Perceptron, pictures, task_of, trained
from lilliput.errors import TaskError
from lilliput.model.capture import capture
from lilliput.model.hashes import model_hash, state_hash
from lilliput.splits import Split
from lilliput.stages import profile as stage
from lilliput.stages.plan import Targets, Trial, plan
from lilliput.stages.profile import (
    FEWEST_SEQUENCES,
    PROBE,
    PROBE_EXAMPLES,
    answers_each,
    observed,
    probe_count,
    probed,
    profile,
)
from lilliput.task import Task


def profiled(task, seed=0, **changes):
    split = task.split(seed) if len(task) else Split((), (), ())
    captured = capture(task.model, task.sample(2))
    return profile(task, captured, split, seed=seed, **changes)


@pytest.fixture(scope="module")
def task():
    return task_of(trained(Perceptron), count=800)


@pytest.fixture(scope="module")
def known(task):
    return profiled(task)


def test_every_site_and_every_float_is_known(task, known):
    names = ["first.weight", "second.weight", "gate.weight", "head.weight"]
    assert list(known.sites) == names
    assert known.parameters.keys() == dict(task.model.named_parameters()).keys()
    assert known.model_hash == model_hash(task.model) and known.calibrated
    assert known.sites["first.weight"].macs == 144 * 160


def test_sites_that_read_the_same_values_share_one_factorisation(known):
    second, gate = known.sites["second.weight"], known.sites["gate.weight"]
    assert second.second.data_ptr() == gate.second.data_ptr()
    assert second.second.shape == (1, 160, 160)
    PROBE.apply(known, ("second.weight", "gate.weight"))
    keys = {known.sites[name].second.data_ptr() for name in known.sites}
    assert known.factors.keys() == keys and len(keys) == 3


def test_row_weights_have_mean_one(known):
    for name, site in known.sites.items():
        assert float(site.weights.mean()) == pytest.approx(1, abs=1e-3), name
        assert float(site.weights.min()) > 0


def test_sensitivity_is_the_divergence_per_unit_of_damage(task, known):
    """Measured again with the network itself: weights replaced, torch's own divergence."""
    subset = task.split(0).search[: PROBE_EXAMPLES[1]]
    images = torch.stack([task.example(i).input for i in subset])
    for name, site in known.sites.items():
        value = PROBE.apply(known, (name,))[name].decode()
        with torch.no_grad():
            before = task.model(images).double().log_softmax(1)
            moved = torch.func.functional_call(task.model, {name: value}, images)
            after = moved.double().log_softmax(1)
        kl = functional.kl_div(after, before, log_target=True, reduction="batchmean")
        lost = known.matrix(name) - site.site.matrix(value)
        side = torch.diag(site.weights) if site.output is None else site.output
        groups = range(len(site.second))
        inner = torch.block_diag(*[lost.chunk(len(groups))[g] @ site.second[g] for g in groups])
        outer = torch.block_diag(*lost.chunk(len(groups)))
        expected = float(kl) / float(torch.trace(side @ inner @ outer.t()))
        assert site.sensitivity == pytest.approx(expected, rel=1e-3), name


def test_the_model_and_its_mode_stay_as_they_are():
    task = task_of(trained(Perceptron).train(), count=200)
    before = state_hash(task.model)
    profiled(task)
    assert state_hash(task.model) == before


def test_the_same_seed_gives_the_same_profile(task, known):
    again = profiled(task)
    for name, site in known.sites.items():
        other = again.sites[name]
        assert torch.equal(site.second, other.second)
        assert torch.equal(site.weights, other.weights)
        assert site.sensitivity == other.sensitivity


def test_too_few_examples_are_said_once_for_all_sites(task, known):
    (said,) = [line for line in known.warnings if "calibration rows" in line]
    assert said.startswith("first.weight: 100 calibration rows for 144 inputs; at least 576")
    assert said.endswith("(and 3 other sites)")
    enough = profiled(task_of(task.model, count=800, calibration_size=700, search_size=50))
    assert not [line for line in enough.warnings if "calibration rows" in line]


def test_without_examples_an_error_counts_against_the_weights_own_size():
    images, _ = pictures(4, 0)
    found = profiled(Task(model=trained(Perceptron), example_inputs=images))
    assert not found.calibrated
    for name, site in found.sites.items():
        assert site.second is None and (site.weights == 1).all()
        energy = float(found.parameters[name].square().sum())
        assert site.sensitivity == pytest.approx(1 / energy, rel=1e-5)


def test_progress_is_told_stage_by_stage(task):
    told = []
    profiled(task, progress=lambda *step: told.append(step))
    assert {"calibrate", "probe"} <= {stage for stage, _, _ in told}
    assert [done for stage, done, _ in told if stage == "probe"] == [0, 1, 2, 3]
    assert all(0 <= done < total for _, done, total in told)


class Logarithm(nn.Module):
    """NaN inside for what is negative, a fine output all the same."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, x):
        return self.head(torch.log(self.first(x))).nan_to_num()


def test_nan_inside_the_model_names_the_site():
    inputs = torch.randn(64, 16)
    task = Task(model=Logarithm(), examples=list(inputs), calibration_size=16, search_size=16)
    captured = capture(task.model, task.sample(2), smallest=1)
    with pytest.raises(TaskError, match=r"NaN or infinity .*head\.weight"):
        profile(task, captured, task.split(0))


def test_a_site_whose_probe_breaks_the_output_keeps_its_finest_grid(known):
    name, site = next(iter(known.sites.items()))
    broken = stage._try(known, site, lambda value: float("nan")).site
    assert math.isfinite(broken.sensitivity) and broken.sensitivity > 1e3 * site.sensitivity
    sites = {**known.sites, name: broken}
    chosen = plan(replace(known, sites=sites), Targets(20_000, None, None), evaluate=Guess())
    steps = [step.settings["step"] for step in chosen.steps if "step" in step.settings]
    assert steps[0] == min(steps)


class Guess:
    """Files exactly as large as asked for."""

    def sizes(self, chosen):
        return Trial(storage=20_000, installed=20_000)

    def expected_drop(self, chosen):
        raise NotImplementedError


def test_row_sides_stay_only_where_the_output_says_that_they_pay(known):
    bare = replace(known.sites["first.weight"], output=None)
    site = replace(bare, output=torch.eye(bare.site.rows))

    def tried(gains):
        return [(stage._Tried(site, 1.0), stage._Tried(bare, 1.0 + gain)) for gain in gains]

    assert stage._row_sides_pay(tried([0.9, 0.2, 0.7]))
    assert not stage._row_sides_pay(tried([0.9, -0.2, 0.4]))  # chance does that with three
    assert stage._row_sides_pay(tried(8 * [0.9, -0.2, 0.4]))
    assert not stage._row_sides_pay(tried([0.5, -0.6, 0.1]))


@pytest.mark.parametrize("voters", [1, 24])
@pytest.mark.parametrize("pays", [True, False])
def test_one_vote_holds_for_all_sites_of_a_kind(task, monkeypatch, pays, voters):
    monkeypatch.setattr(stage, "VOTERS", voters)
    monkeypatch.setattr(stage, "_row_sides_pay", lambda tried: pays)
    found = profiled(task).sites.values()
    assert all(site.sensitivity > 0 for site in found)
    assert [site.output is not None for site in found] == [pays] * 4


@pytest.mark.parametrize("pays", [True, False])
def test_without_sensitivities_the_metric_of_every_site_is_the_same(task, monkeypatch, pays):
    """Only the sites that vote are probed, and none has a sensitivity that it might not have."""
    monkeypatch.setattr(stage, "VOTERS", 1)
    monkeypatch.setattr(stage, "_row_sides_pay", lambda tried: pays)
    tried, told, real = [], [], stage._try
    monkeypatch.setattr(stage, "_try", lambda *given: tried.append(given[1]) or real(*given))
    captured, split = capture(task.model, task.sample(2)), task.split(0)
    start = observed(task, captured, split=split)
    found = probed(
        task, start, split=split, every=False, progress=lambda *step: told.append(step[0])
    )
    assert len(tried) == 2 and set(told) == {"compare"}
    whole = profiled(task)
    assert len(tried) == 2 + 2 + 3 and found.sites.keys() == whole.sites.keys()
    for name, site in whole.sites.items():
        again = found.sites[name]
        assert again.sensitivity is None and site.sensitivity > 0
        assert torch.equal(again.second, site.second) and torch.equal(again.weights, site.weights)
        assert (again.output is not None) == (site.output is not None) == pays
        assert not pays or torch.equal(again.output, site.output)


def test_examples_with_many_answers_need_fewer_probes_where_the_model_is_dear():
    fewest, most = PROBE_EXAMPLES
    assert probe_count(1e15, 200) == probe_count(1e15, 200, answers=1) == fewest
    assert probe_count(1e15, 200, answers=2) == fewest // 2
    assert probe_count(1e15, 200, answers=128) == FEWEST_SEQUENCES
    assert probe_count(1.0, 200, answers=128) == probe_count(1.0, 200) == most
    assert answers_each(torch.zeros(3, 10)) == answers_each(torch.zeros(3)) == 1
    assert answers_each(torch.zeros(3, 128, 10)) == 128
