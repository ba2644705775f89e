"""Plans that change the model's shape first: shipped, loaded, replayed, refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import lilliput
from classifiers import Convolutions, Perceptron, pictures, task_of, trained
from lilliput import structures
from lilliput.errors import PlanError, ShapeError, UnreachableError
from lilliput.folders import read_manifest
from lilliput.learning import Recover
from lilliput.model.hashes import model_hash, state_hash
from lilliput.planning import outlook
from lilliput.plans import read_plan
from lilliput.records import Plan
from lilliput.restructuring import split_plan
from lilliput.runs import Settings
from lilliput.runtime.sessions import default_session
from lilliput.stages.measure import Conditions
from lilliput.structures import DEEPER, LADDER, ladder_of
from lilliput.techniques import NarrowSecondOrder, QuantizeFeedback

pytestmark = pytest.mark.slow

QUICK = Conditions(threads=1, seconds=0.1, memory_rounds=1, scoring_batch=128)
SITES = ("stem.weight", "deep.weight", "wide.weight")


class Residual(nn.Module):
    """Four residual blocks on flattened images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(144, 32)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.head = nn.Linear(32, 4)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.stem(image.flatten(1))
        for block in self.blocks:
            hidden = hidden + block(hidden).relu()
        return self.head(hidden)


def plan_of(model, *steps):
    return Plan(model_hash=model_hash(model), steps=steps)


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory):
    """Half of the wide convolution's channels, then a grid on all weights: task, report, folder."""
    task, out = task_of(trained(Convolutions)), tmp_path_factory.mktemp("narrowed") / "out"
    before = state_hash(task.model)
    plan = plan_of(
        task.model,
        NarrowSecondOrder(remove=0.5).step_of(["wide"]),
        QuantizeFeedback(step=0.1).step_of(SITES),
    )
    report = lilliput.apply_plan(plan, task, out=out, settings=Settings(conditions=QUICK))
    assert state_hash(task.model) == before
    return task, plan, report, out


def test_the_file_is_narrower_and_shares_are_of_the_original(narrowed):
    task, plan, report, out = narrowed
    assert report.plan == plan == read_plan(out / "plan.toml")
    assert read_manifest(out).plan.model_hash == model_hash(task.model)
    shapes = {site.name: site.shape for site in report.sites}
    assert shapes["wide.weight"] == (48, 48, 3, 3)
    own = sum(value.numel() for value in task.model.parameters()) * 4
    assert report.original.installed_bytes > own > 3 * report.artifact.installed_bytes
    assert report.fidelity.decibels is None or report.fidelity.decibels > 100
    assert report.drop.estimate < 0.05


def test_the_users_class_takes_the_shape_and_answers_as_the_file(narrowed):
    *_, out = narrowed
    net = lilliput.load(out, model=Convolutions()).eval()
    assert net.wide.out_channels == 48 and net.norm3.num_features == 48
    images, _ = pictures(64, 5)
    session = default_session(out / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), net(images), atol=1e-4, rtol=1e-4)
    net.train()(images).sum().backward()


def test_a_replay_gives_the_same_bytes(narrowed, tmp_path):
    task, plan, _, out = narrowed
    settings = Settings(conditions=QUICK)
    lilliput.apply_plan(plan, task, out=tmp_path / "again", settings=settings)
    for name in ("model.onnx", "model.lilliput", "model.safetensors", "plan.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_a_narrower_model_is_trained_on_in_its_new_shape(tmp_path):
    images, labels = pictures(512, 7)
    train = [(image, int(label)) for image, label in zip(images, labels, strict=True)]
    task = task_of(trained(Convolutions), train=train)
    step = NarrowSecondOrder(remove=0.75, multiple=1, refit="none").step_of(["stem", "wide"])
    plan = plan_of(task.model, step)
    how = Recover(strength="full", steps=40, rate=3e-3)
    report = lilliput.apply_plan(
        plan, task, out=tmp_path / "out", settings=Settings(conditions=QUICK, recover=how)
    )
    assert report.recovery.kept and report.recovery.after < 0.5 * report.recovery.before
    assert [one.technique for one in report.plan.steps] == ["narrow_second_order", "learn_recovery"]
    assert report.artifact.macs < 0.3 * report.original.macs
    net = lilliput.load(tmp_path / "out", model=Convolutions()).eval()
    session = default_session(tmp_path / "out" / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: images[:64].numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), net(images[:64]), atol=1e-4, rtol=1e-4)
    again = tmp_path / "again"
    lilliput.apply_plan(report.plan, task, out=again, settings=Settings(conditions=QUICK))
    assert (again / "model.onnx").read_bytes() == (tmp_path / "out" / "model.onnx").read_bytes()


def test_shapes_come_before_weights():
    steps = (QuantizeFeedback().step_of(SITES), NarrowSecondOrder().step_of(["wide"]))
    with pytest.raises(PlanError, match="quantize_feedback comes before a step that changes"):
        split_plan(Plan(model_hash="0", steps=steps))


def test_a_width_that_does_not_exist_is_named_before_anything_is_profiled(tmp_path):
    task = task_of(trained(Convolutions), 400)
    plan = plan_of(task.model, NarrowSecondOrder(remove=0.5).step_of(["wild"]))
    with pytest.raises(ShapeError, match="did you mean wide"):
        lilliput.apply_plan(plan, task, out=tmp_path / "out", settings=Settings(conditions=QUICK))
    assert not (tmp_path / "out").exists()


def test_shapes_are_tried_where_latency_is_limited(tmp_path):
    task, stages = task_of(trained(Perceptron), 800), []
    report = lilliput.compress(
        task,
        lilliput.Budget(latency="80ms"),
        out=tmp_path / "out",
        settings=Settings(
            conditions=QUICK, progress=lambda stage, done, of: stages.append((stage, done, of))
        ),
    )
    assert ("shapes", len(LADDER), len(LADDER)) in stages
    tried = {one.name: one.divergence for one in report.planning.compared}
    assert {"narrow_second_order remove 0.25", "narrow_second_order"} <= tried.keys()
    assert report.verdict == "proved"
    lilliput.load(tmp_path / "out", model=Perceptron())


def test_half_of_the_blocks_are_tried_too_where_all_weights_learn_afterwards(tmp_path):
    full = Recover(steps=2, strength="full", batch_size=16)
    assert ladder_of(Settings()) == ladder_of(Settings(recover=Recover(steps=2))) == LADDER
    assert ladder_of(Settings(recover=full)) == LADDER + DEEPER
    images, labels = pictures(64, 7)
    train = [(image, int(label)) for image, label in zip(images, labels, strict=True)]
    report = lilliput.compress(
        task_of(trained(Residual), 800, train=train),
        lilliput.Budget(latency="80ms"),
        out=tmp_path / "out",
        settings=Settings(conditions=QUICK, recover=full),
    )
    tried = {one.name: one.divergence for one in report.planning.compared}
    assert tried["shorten_drop remove 0.5"] > 0


def test_the_shape_with_least_divergence_in_sum_is_planned_anew(monkeypatch, tmp_path):
    """With the old shape out of reach, what is left is planned for the most promising one."""
    asked = []

    def unreachable_first(run, trials, **given):
        asked.append(run.shaping)
        found = outlook(run, trials, **given)
        if run.shaping:
            return found
        return replace(found, planned=None, unreachable=UnreachableError("out of reach"))

    monkeypatch.setattr(structures, "outlook", unreachable_first)
    task = task_of(trained(Perceptron), 800)
    report = lilliput.compress(
        task,
        lilliput.Budget(latency="80ms"),
        out=tmp_path / "out",
        settings=Settings(conditions=QUICK),
    )
    assert len(asked) == 2 and asked[0] == () and len(asked[1]) == 1
    assert report.plan.steps[0] == asked[1][0] and report.plan.steps[1].technique != "narrow"
    net = lilliput.load(tmp_path / "out", model=Perceptron())
    assert net.first.out_features < 160
    again = lilliput.apply_plan(
        read_plan(tmp_path / "out" / "plan.toml"),
        task,
        out=tmp_path / "again",
        settings=Settings(conditions=QUICK),
    )
    assert again.files["model.onnx"] == report.files["model.onnx"]
