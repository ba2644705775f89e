from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lilliput import Budget, Task, apply_plan
from lilliput.errors import ContainerError, InputError, TaskError
from lilliput.ledger import Ledger
from lilliput.model.hashes import model_hash
from lilliput.records import Plan, Step
from lilliput.runs import LEDGER, Settings
from lilliput.stages.measure import Conditions
from lilliput.verification import verify

QUICK = Conditions(seconds=0.2, memory_rounds=5, threads=1)


def task(examples=600, seed=0, width=64):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 6))
    points = np.random.default_rng(seed).normal(size=(examples, 16)).astype(np.float32)
    return Task(model=model, examples=list(torch.from_numpy(points)), name=f"seed {seed}")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A folder made by rounding to int8, and its report."""
    out = tmp_path_factory.mktemp("verification") / "out"
    given = task()
    step = Step(technique="quantize_round", where=("0.weight", "2.weight"))
    plan = Plan(model_hash=model_hash(given.model), steps=(step,), seed=4)
    settings = Settings(conditions=QUICK)
    budget = Budget(storage="90%", drop="9%")
    return out, apply_plan(plan, given, budget, out=out, settings=settings)


def test_the_same_proof_gives_the_same_drop(shipped):
    out, before = shipped
    told = []
    settings = Settings(conditions=QUICK, progress=lambda *what: told.append(what[0]), command="c")
    after = verify(out, task(), settings=settings)
    assert after.drop == before.drop and after.drop.look == 1
    assert after.original.installed_bytes == before.original.installed_bytes
    assert [limit.verdict for limit in after.limits] == ["proved", "proved"]
    assert (after.command, after.seed, after.task) == ("c", 4, "seed 0")
    assert list(dict.fromkeys(told)) == [
        "check the files", "export the original", "measure", "latency", "memory",
    ]  # fmt: skip


def test_fresh_examples_all_prove_and_are_a_look_of_their_own(shipped, tmp_path):
    out = shipped[0]
    new = task(examples=250)
    new = Task(model=new.model, examples=[x + 1e-3 for x in new.examples], name="new")
    ledger = tmp_path / "own.json"
    settings = Settings(conditions=QUICK, ledger=ledger)
    after = verify(out, new, fresh=True, settings=settings)
    assert after.splits["proof"] == after.drop.examples == 250
    assert after.task == "new" and f"{out}/model.lilliput" in after.summary
    shown = new.proof_hash(range(250))
    assert Ledger(ledger).peek(shown).number == 2
    assert Ledger(out.parent / LEDGER).peek(shown).number == 1


def test_another_model_is_refused(shipped):
    with pytest.raises(TaskError, match=r"is not the one that .* was made from"):
        verify(shipped[0], task(width=65))


def test_a_folder_without_files_or_report(shipped, tmp_path):
    for path in shipped[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "report.json").unlink()
    with pytest.raises(InputError, match=r"there is no .*report\.json"):
        verify(tmp_path, task())
    Path(tmp_path / "plan.toml").write_text("")
    with pytest.raises(ContainerError, match=r"plan\.toml is not the file"):
        verify(tmp_path, task())
