import pytest
import torch
from lessons_nets import Perceptron

from lilliput import Budget, Plan, apply_plan, compress
from lilliput.errors import BudgetError, TrainingError, UnreachableError
from lilliput.folders import read_manifest
from lilliput.learning import Training, finetune
from lilliput.learning.constraints.constrained import Constrained
from lilliput.learning.constraints.on_grids import OnGrid
from lilliput.learning.lesson import Supervised
from lilliput.learning.recovery import Recover
from lilliput.learning.squeezing import Squeezing, bits_of, grids_of
from lilliput.model.encodings import Grid
from lilliput.plans import plan_from_toml
from lilliput.runs import Settings

HARD = Recover(epochs=30, strength="full", squeeze=True, rate=3e-3, batch_size=50)


@pytest.fixture(scope="module")
def trained(digits):
    from lilliput import Task

    torch.manual_seed(0)
    task = Task(
        model=Perceptron(256),
        metric="accuracy",
        train=digits[:1000],
        calibration=digits[1000:1100],
        search=digits[1100:1300],
        proof=digits[1300:],
    )
    found = finetune(task, training=Training(epochs=12, rate=0.01))
    return found.task(task)


def gridded(model, step=0.05):
    codes = {n: (p.detach() / step).round() for n, p in model.named_parameters() if p.ndim == 2}
    return {
        name: Grid(c.to(torch.int8), torch.full((len(c),), step), None, tuple(c.shape))
        for name, c in codes.items()
    }


def test_prices_rise_with_the_size_of_codes_and_fall_to_what_is_common(trained):
    held = Constrained(trained.model, gridded(trained.model, step=0.2), together=True)
    lesson = Squeezing(Supervised(trained), held.model, bits=1.0)
    lesson.before(held.model, 0.0)
    largest = float(grids_of(held.model)[0][0].codes.abs().max())
    assert largest >= 2
    padded = torch.zeros(256, 64)
    padded[:, :4] = torch.tensor([-1.4, -0.4, 0.3, 0.6])
    padded.requires_grad_()
    lesson._prices.saved(0, padded).backward()
    slope = padded.grad[5, :4]
    assert slope[0] < 0 < slope[3] and slope[1] < 0 < slope[2], "towards zero is cheaper"


def test_the_step_of_all_rows_stays_one(trained):
    held = Constrained(trained.model, gridded(trained.model), together=True)
    grids = grids_of(held.model)
    assert len(grids) == 2 and all(isinstance(one, OnGrid) for one, _ in grids)
    with torch.no_grad():
        grids[0][0].growth += 0.1
    steps = held.encodings()["body.1.weight"].row_steps
    assert steps.unique().numel() == 1 and float(steps[0]) > 0.05
    assert bits_of(grids) > 0


@pytest.fixture(scope="module")
def squeezed(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("squeezed") / "out"
    report = compress(
        trained, Budget(storage="5%", drop="4%"), out=out, settings=Settings(recover=HARD)
    )
    return out, report


def test_codes_are_led_to_what_storage_leaves_and_the_answers_hold(squeezed):
    _, report = squeezed
    limits = {limit.name: limit for limit in report.limits}
    assert limits["storage"].verdict == "proved"
    assert limits["drop"].value < 0.04
    assert report.recovery.kept and report.recovery.strength == "full"


def test_a_squeezed_plan_gives_the_same_bytes_again(squeezed, trained, tmp_path):
    out, _ = squeezed
    plan: Plan = plan_from_toml((out / "plan.toml").read_text())
    assert plan.steps[-1].settings["bits"] > 0
    apply_plan(plan, trained, Budget(drop="4%"), out=tmp_path / "again")
    first, second = (read_manifest(folder).files for folder in (out, tmp_path / "again"))
    assert first["model.lilliput"] == second["model.lilliput"]


def test_what_cannot_be_squeezed_is_told(trained, tmp_path):
    with pytest.raises(TrainingError, match="squeezed in full recovery only"):
        Recover(epochs=1, squeeze=True)
    settings = Settings(recover=HARD)
    with pytest.raises(BudgetError, match="squeezing needs a limit on storage"):
        compress(trained, Budget(drop="1%"), out=tmp_path / "a", settings=settings)
    with pytest.raises(UnreachableError, match="all but the codes takes"):
        compress(trained, Budget(storage="1%"), out=tmp_path / "b", settings=settings)
    with pytest.raises(BudgetError, match="squeezing knows nothing of latency"):
        compress(trained, Budget(storage="20%", latency="50%"), out=tmp_path / "c",
                 settings=settings)  # fmt: skip
    assert not list(tmp_path.iterdir())
    text = "epochs=2,strength=full,squeeze=true"
    assert Recover.parse(text) == Recover(epochs=2, strength="full", squeeze=True)
