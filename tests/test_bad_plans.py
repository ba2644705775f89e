"""Plans with mistakes: each is refused by name before hours are spent, and nothing is left."""

import tempfile

import pytest
import torch
from torch import nn

import lilliput
from lilliput.errors import BudgetError, InputError, PlanError, TaskError
from lilliput.fronts import sweep_budgets
from lilliput.model.hashes import model_hash, state_hash
from lilliput.plans import plan_from_toml
from lilliput.runs import Settings


class Net(nn.Module):
    """A convolution, a linear layer whose width 4 does not divide, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(6, 16, 3)
        self.narrow = nn.Linear(16 * 6, 30)
        self.head = nn.Linear(30, 20)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(sound).relu().flatten(1)
        return self.head(self.narrow(hidden).relu())


class Branching(Net):
    """What it does depends on what it sees: there is no graph of it."""

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return super().forward(sound) * (2 if float(sound.sum()) > 1e9 else 1)


@pytest.fixture
def task() -> lilliput.Task:
    made = torch.Generator().manual_seed(0)
    examples = [torch.randn(6, 8, generator=made) for _ in range(60)]
    return lilliput.Task(model=Net().eval(), examples=examples)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files go: nothing of ours may stay there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def ours(scratch) -> list[str]:
    """What we left there; PyTorch's compiler has a folder of its own."""
    return [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor")]


def text(*steps: str) -> str:
    """A plan for `Net`, from steps of TOML."""
    return "\n[[steps]]\n".join([f'model_hash = "{model_hash(Net())}"', *steps])


def step(technique: str, where: str = "narrow.weight", **settings: object) -> str:
    lines = [f'technique = "{technique}"', f'where = ["{where}"]', "[steps.settings]"]
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())])


def refused(task, plan: str, scratch) -> PlanError:
    """How a plan is refused; nothing is written, and the model is as it was."""
    before = state_hash(task.model)
    with pytest.raises(PlanError) as told:
        lilliput.apply_plan(plan_from_toml(plan), task, out=scratch.parent / "out")
    assert state_hash(task.model) == before
    assert [path.name for path in scratch.parent.iterdir()] == ["scratch"]
    assert ours(scratch) == []
    assert "\n" not in str(told.value)
    return told.value


@pytest.mark.parametrize(
    ("plan", "message", "hint"),
    [
        ("steps = [", "not valid TOML", "plan.toml"),
        ("steps = []", "field 'model_hash' is wrong: Field required", "schema_version, model_hash"),
        (text() + "\nsteps = 3", "field 'steps' is wrong: Input should be a list", "steps"),
        (text() + "\nstepz = []", "unknown field 'stepz'", "did you mean steps?"),
        (text() + "\nschema_version = 2\nsteps = []", "'schema_version' is wrong: .* be 1", "seed"),
        (text() + "\nseed = 1.5\nsteps = []", "field 'seed' is wrong: .* integer", "seed"),
        (text('technique = "quantize_round"'), r"field 'steps\.0\.where' is wrong", "settings"),
        (text('technique = "a"\nwhere = [3]'), r"'steps\.0\.where\.0' .* string", "where"),
        (
            text('technique = "prune_wanda"\nwhere = []\nsetings = {}'),
            r"unknown field 'steps\.0\.setings'",
            "did you mean settings?",
        ),
    ],
)  # fmt: skip
def test_what_is_no_plan(plan, message, hint):
    with pytest.raises(PlanError, match=message) as told:
        plan_from_toml(plan)
    assert "\n" not in str(told.value) and hint in told.value.hint


SEEN_FIRST = [
    (step("prune_wand"), "unknown technique 'prune_wand'", "did you mean prune_wanda?"),
    (step("quantize_round", bitts=4), "has no field 'bitts'", "did you mean bits?"),
    (step("quantize_round", bits=99), "bits = 99: ", "whole number in [2, 8], the nearest is 8"),
    (step("quantize_round", bits=0), "bits = 0: ", "the nearest is 2"),
    (step("quantize_round", bits=7.6), "bits = 7.6: ", "in [2, 8], the nearest is 8"),
    (step("quantize_round", bits='"8"'), "bits = '8': ", "a whole number in [2, 8]"),
    (step("quantize_round", bits="true"), "bits = True: ", "a whole number in [2, 8]"),
    (step("quantize_round", per='"rows"'), "per = 'rows': ", "row, tensor, the nearest is row"),
    (step("quantize_round", symmetric=1), "symmetric = 1: ", "allowed is true or false"),
    (step("quantize_awq", group=100), "group = 100: ", "16, 32, 64, 128, 256, the nearest is 128"),
    (step("quantize_static", percentile=10.0), "percentile = 10.0: ", "the nearest is 90"),
    (step("quantize_feedback", step="inf"), "step = inf: ", "(0, 16], the nearest is 16"),
    (step("quantize_feedback", step=0.0), "step = 0.0: ", "allowed is a number in (0, 16]"),
    (step("prune_wanda", amount=1.0), "amount = 1.0: ", "allowed is a number in [0, 1)"),
    (step("prune_wanda", amount="nan"), "amount = nan: ", "allowed is a number in [0, 1)"),
    (step("prune_wanda", pattern='"2:5"'), "pattern = '2:5': ", "1x4, 4x1, the nearest is 2:4"),
    ('technique = "prune_wanda"\nwhere = []', "where = [] names no site", "lilliput profile"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message", "hint"), SEEN_FIRST)
def test_wrong_steps_are_seen_before_the_model_is_run(
    task, scratch, monkeypatch, wrong, message, hint
):
    monkeypatch.setattr(task.model, "forward", None)  # running it would be another error
    told = refused(task, text(step("quantize_round"), wrong), scratch)
    assert message in told.message
    assert hint in told.hint


TAKEN = "an earlier step made it "
SEEN_ON_THE_MODEL = [
    ((step("quantize_round", "narow.weight"),), "no site 'narow.weight'", "did you mean narrow."),
    ((step("quantize_round", "conv.bias"),), "no site 'conv.bias'", "did you mean conv.weight?"),
    ((step("quantize_round", "zzz"),), "no site 'zzz'", "`lilliput profile` lists the sites"),
    ((step("factorize_tucker"),), "cannot take narrow.weight, 30 x 96", "factorize_whitened takes"),
    ((step("factorize_svd", rank=31),), "rank = 31 is above", "1 to 30, the nearest is 30"),
    (
        (step("prune_wanda", "head.weight", pattern='"2:4"'),),
        "pattern 2:4 does not divide head.weight, 20 x 30",
        'pattern "any" fits every site',
    ),
    (
        (step("prune_wanda", pattern='"2:4"', amount=0.6),),
        "amount = 0.6 does not go with pattern 2:4",
        "allowed is 0.5",
    ),
    ((step("quantize_round"), step("prune_wanda")), TAKEN + "grid", "prune, factorize, then"),
    ((step("quantize_round"), step("quantize_round")), TAKEN + "grid", "prune, factorize, then"),
    ((step("share_values"), step("factorize_svd")), TAKEN + "codebook", "prune, factorize, then"),
]  # fmt: skip


@pytest.mark.parametrize(("steps", "message", "hint"), SEEN_ON_THE_MODEL)
def test_steps_that_the_sites_cannot_take(task, scratch, steps, message, hint):
    told = refused(task, text(*steps), scratch)
    assert message in told.message
    assert hint in told.hint


def test_a_site_that_does_not_exist_is_named_before_anything_is_profiled(
    task, scratch, monkeypatch
):
    monkeypatch.setattr("lilliput.pipeline.observed", None)
    told = refused(task, text(step("quantize_round", "narow.weight")), scratch)
    assert "no site 'narow.weight'" in told.message


def test_a_plan_for_another_architecture(task, scratch):
    plan = text(step("quantize_round")).replace(model_hash(Net()), "00")
    assert "another architecture" in refused(task, plan, scratch).message


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_a_seed_out_of_range(seed):
    with pytest.raises(InputError, match=r"allowed is 0 to 4294967295, the nearest is"):
        Settings(seed=seed)


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        ("6%,9%", "sweep '6%,9%' is one text"),
        (("6%", "nine"), "sweep: storage 'nine' is not a limit"),
        ((0.06, 0.0), "sweep: storage 0.0 is not a limit"),
        ((0.06, None), "sweep: storage None is not a limit"),
    ],
)
def test_sweeps_that_are_none(amounts, message):
    with pytest.raises(BudgetError, match=message):
        sweep_budgets(lilliput.Budget(drop="1%"), amounts)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ({"arithmetic": "int8"}, "leave arithmetic int8 out"),
        ({"arithmetic": "fixed"}, "leave arithmetic fixed out"),
        ({"part": "narow"}, "did you mean narrow?"),
    ],
)
def test_what_needs_a_graph_is_refused_where_there_is_none(task, scratch, capfd, asked, hint):
    task = lilliput.Task(model=Branching().eval(), examples=task.examples)
    before = state_hash(task.model)
    with pytest.raises(InputError) as told:
        lilliput.compress(task, out=scratch.parent / "out", settings=Settings(**asked))
    assert hint in told.value.hint
    assert state_hash(task.model) == before and ours(scratch) == []
    assert not (scratch.parent / "out").exists() and capfd.readouterr().err == ""


@pytest.mark.parametrize("spoilt", ["infinite inputs", "huge weights"])
def test_infinities_that_flow_into_a_site_are_named(task, scratch, spoilt):
    """The output is finite, so that running the model alone does not tell."""

    class Bounded(Net):
        def forward(self, sound: torch.Tensor) -> torch.Tensor:
            hidden = self.conv(sound).flatten(1).relu()
            return self.head(self.narrow(hidden).sigmoid().round())

    net, examples = Bounded().eval(), list(task.examples)
    with torch.no_grad():
        net.narrow.weight.abs_()
        net.conv.weight.abs_()
        if spoilt == "huge weights":
            net.conv.weight.mul_(1e30)
    if spoilt == "infinite inputs":
        examples = [torch.where(x > 3, torch.inf, x.abs()) for x in examples]
    before = state_hash(net)
    with pytest.raises(TaskError, match=r"NaN or infinity (flows into|comes out of) \w+\.weight"):
        task = lilliput.Task(model=net, examples=examples)
        lilliput.compress(task, out=scratch.parent / "out")
    assert state_hash(net) == before and ours(scratch) == []
    assert not (scratch.parent / "out").exists()
