import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lessons_nets import Perceptron
from torch import nn

from lilliput import Range, Study, Training, choice, tune
from lilliput.errors import CheckpointError, MissingExtraError, TaskError, TrainingError
from lilliput.learning import Surroundings, finetune
from lilliput.learning.tuning.spaces import parse_space
from lilliput.learning.tuning.study import JOURNAL, _check_journal
from lilliput.model.hashes import state_hash

HERE = Path(__file__).parents[1]  # where its networks are
SPACE = {"rate": Range(1e-4, 1e-1, log=True), "batch_size": (32, 64)}
QUICK = Training(steps=10, seed=0)


def test_a_space_is_read_as_it_is_written_in_a_shell():
    text = "rate=1e-4..1e-1 log, batch_size=32|64 , optimizer=adamw|sgd,depth=1..4"
    assert parse_space(text) == {
        "rate": Range(1e-4, 1e-1, log=True),
        "batch_size": (32, 64),
        "optimizer": ("adamw", "sgd"),
        "depth": Range(1, 4),
    }
    assert Range(1, 4).whole and not Range(1.0, 4).whole


@pytest.mark.parametrize("text", ["rate", "rate=", "rate=3", "rate=1..", "rate=1..2..3", "=3"])
def test_what_is_no_space_is_refused(text):
    with pytest.raises(TrainingError):
        parse_space(text)


def test_a_choice_is_its_default_outside_of_a_study():
    assert choice("width", 16, 32) == 16 and choice("width", 16, 32, default=32) == 32
    assert choice("depth", Range(1, 4)) == 1
    with pytest.raises(TrainingError, match="nothing to choose from"):
        choice("width", 16)
    with pytest.raises(TrainingError, match="is not among its options"):
        choice("width", 16, 32, default=64)


def test_the_best_is_never_worse_than_the_defaults_and_can_be_learned_again(digits_task):
    task = digits_task()
    before = state_hash(task.model)
    found = tune(task, study=Study(space=SPACE, trials=8), training=QUICK)
    assert found.trials[0].values == {"rate": 1e-3, "batch_size": 64}
    assert len(found.trials) == 8 and found.best in found.front
    assert found.best.results[0] >= found.trials[0].results[0]
    assert found.best.results[0] == found.learned.best.score > 0.3
    assert found.best.values["rate"] == found.training.rate > 2e-3
    assert state_hash(task.model) == before
    again = finetune(task, training=found.training)
    assert state_hash(again.model) == state_hash(found.learned.model)


def build():
    width, depth = choice("width", 8, 64), choice("depth", Range(1, 2))
    act = choice("activation", "relu", "gelu")
    kind = {"relu": nn.ReLU, "gelu": nn.GELU}[act]
    hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), kind())]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), kind(), *hidden, nn.Linear(width, 10))


def test_structure_is_tuned_for_score_and_size(digits_task):
    study = Study(space={"rate": Range(0.01, 0.1)}, trials=6, objectives=("score", "size"))
    found = tune(digits_task(), build=build, study=study, training=QUICK)
    assert found.trials[0].values == {
        "width": 8,
        "depth": 1,
        "activation": "relu",
        "rate": found.trials[0].values["rate"],
    }
    widths = {trial.values["width"] for trial in found.trials}
    assert widths == {8, 64}
    sizes = {w: [t.results[1] for t in found.trials if t.values["width"] == w] for w in widths}
    assert max(sizes[8]) < min(sizes[64])
    for one in found.front:
        for other in found.trials:
            better = other.results[0] >= one.results[0] and other.results[1] <= one.results[1]
            assert not better or other.results == one.results
    assert found.learned.model[1].weight.shape[0] == found.best.values["width"]


def test_values_that_are_no_settings_go_to_the_use(digits_task):
    seen = []

    def using(task, *, training, around, strength):
        seen.append(strength)
        return finetune(task, training=training, around=around)

    study = Study(space={"strength": (0.5, 1.0)}, trials=2)
    tune(digits_task(), study=study, training=Training(steps=2), using=using)
    assert set(seen) <= {0.5, 1.0} and len(seen) >= 2


def test_the_same_values_are_not_worked_for_twice(digits_task):
    runs = []

    def using(task, *, training, around):
        runs.append(training.batch_size)
        return finetune(task, training=training, around=around)

    study = Study(space={"batch_size": (32, 64)}, trials=6)
    found = tune(digits_task(), study=study, training=Training(steps=2), using=using)
    assert len(found.trials) == 6 and len(runs[:-1]) == len(set(runs)) == 2


def test_bad_trials_end_early(digits_task):
    study = Study(space={"rate": Range(1e-6, 0.05, log=True)}, trials=14)
    training = Training(steps=40, every=4, batch_size=32)
    found = tune(digits_task(), study=study, training=training)
    early = [trial for trial in found.trials if trial.pruned]
    assert early and all(trial.steps < 40 for trial in early)
    assert found.best not in early


def test_a_trial_that_cannot_learn_is_no_end(digits_task):
    study = Study(space={"rate": (1e-2, 1e30)}, trials=4, seed=3)
    training = Training(steps=6, rate=1e-2, optimizer="sgd", clip=0.0, every=2)
    found = tune(digits_task(), study=study, training=training)
    assert found.best.values["rate"] == 1e-2
    assert {t.pruned for t in found.trials if t.values["rate"] == 1e30} == {True}


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
from lessons_nets import Perceptron
from sklearn.datasets import load_digits
from lilliput import Range, Study, Task, Training, tune
from lilliput.learning import Surroundings

torch.set_num_threads(1)
digits = load_digits()
pixels = torch.from_numpy(digits.images.astype("float32") / 16)[:, None]
examples = [(x, int(y)) for x, y in zip(pixels, digits.target)]
torch.manual_seed(0)
task = Task(model=Perceptron(8), metric="accuracy", train=examples[:600],
            calibration=examples[600:700], search=examples[700:800], proof=examples[800:])
space = {{"rate": Range(1e-4, 1e-1, log=True), "batch_size": (16, 32)}}
around = Surroundings(folder=Path(sys.argv[1]), said=lambda line: print(line, flush=True))
found = tune(task, study=Study(space=space, trials=50), training=Training(steps=5), around=around)
print("resumed", found.resumed, found.notes)
"""


def tried(folder: Path) -> list[tuple[str, list[float]]]:
    from optuna import load_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = load_study(
        study_name="lilliput",
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
    )
    done = [t for t in study.get_trials() if t.state.name in ("COMPLETE", "PRUNED")]
    return [(json.dumps(t.params, sort_keys=True), t.values) for t in done]


@pytest.mark.slow
def test_fifty_trials_survive_three_kills_with_nothing_lost_or_repeated(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(here=str(HERE)))
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    command = [sys.executable, str(script)]
    for wanted in (8, 20, 35):
        process = subprocess.Popen(
            [*command, str(broken)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for line in process.stdout:
            if line.startswith(f"trial {wanted}:"):
                break
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    done = subprocess.run([*command, str(broken)], check=True, capture_output=True, text=True)
    assert "resumed" in done.stdout
    subprocess.run([*command, str(whole)], check=True, capture_output=True)
    assert len(tried(whole)) == 50
    assert tried(broken) == tried(whole)


def test_a_finished_study_is_not_run_again(digits_task, tmp_path):
    task, around = digits_task(), Surroundings(folder=tmp_path)
    study = Study(space=SPACE, trials=3)
    first = tune(task, study=study, training=QUICK, around=around)
    again = tune(task, study=study, training=QUICK, around=around)
    assert again.resumed == 3 and again.trials == first.trials
    assert state_hash(again.learned.model) == state_hash(first.learned.model)
    assert len(list((tmp_path / "trials").iterdir())) == 1, "only the best one's checkpoint stays"


def test_a_journal_that_is_damaged_in_the_middle_is_named_and_left_alone(digits_task, tmp_path):
    task, around = digits_task(), Surroundings(folder=tmp_path)
    tune(task, study=Study(space=SPACE, trials=2), training=QUICK, around=around)
    path = tmp_path / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:4], b"\x00garbage\n", *lines[5:]])
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"line 5 of .* is damaged.*keep its first 4 lines"):
        tune(task, study=Study(space=SPACE, trials=3), training=QUICK, around=around)
    assert path.read_bytes() == damaged


def test_a_last_line_that_was_never_finished_is_dropped(tmp_path):
    path = tmp_path / JOURNAL
    path.write_bytes(b'{"a": 1}\n{"b": 2')
    _check_journal(path)
    assert path.read_bytes() == b'{"a": 1}\n'


def test_another_study_in_the_same_folder_is_refused(digits_task, tmp_path):
    task, around = digits_task(), Surroundings(folder=tmp_path)
    tune(task, study=Study(space=SPACE, trials=1), training=QUICK, around=around)
    both = Study(space=SPACE, trials=2, objectives=("score", "size"))
    with pytest.raises(CheckpointError, match="looks for maximize, not maximize, minimize"):
        tune(task, study=both, training=QUICK, around=around)


def test_a_team_shares_a_database(digits_task, tmp_path):
    url = f"sqlite:///{tmp_path}/team.db"
    task = digits_task()
    first = tune(task, study=Study(space=SPACE, trials=2, storage=url), training=QUICK)
    second = tune(task, study=Study(space=SPACE, trials=3, storage=url), training=QUICK)
    assert second.resumed == 2 and second.trials[:2] == first.trials


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"trials": 0}, "trials = 0 is out of range"),
        ({"objectives": ("scor",)}, "each one of score, size, latency"),
        ({"space": {"epochs": (1, 2)}}, "epochs cannot be tuned"),
        ({"space": {"rate": Range(-1.0, 1.0)}}, "rate = -1 is out of range"),
        ({"space": {"optimizer": ("adamw", "sdg")}}, "there is no optimizer 'sdg'"),
        ({"space": {"batchsize": (1, 2)}}, "the nearest is batch_size"),
    ],
)
def test_a_wrong_study_is_refused(fields, told):
    with pytest.raises(TrainingError, match=told):
        Study(**fields)


def test_without_optuna_the_pip_command_is_told(digits_task, monkeypatch):
    monkeypatch.setattr("lilliput.learning.tuning.study.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install lilliput\[search\]"):
        tune(digits_task(Perceptron(4)), study=Study(trials=1), training=QUICK)


def test_a_function_that_builds_no_model_is_told(digits_task):
    with pytest.raises(TrainingError, match="build returned a str"):
        tune(digits_task(), build=lambda: "model", training=QUICK)

    def broken():
        return 1 / 0

    with pytest.raises(TaskError, match="build failed: ZeroDivisionError"):
        tune(digits_task(), build=broken, training=QUICK)


def test_settings_are_written_and_read(tmp_path):
    training = Training(rate=0.02, optimizer="sgd", steps=10, loggers=("tensorboard",), clip=0.0)
    path = tmp_path / "training.toml"
    path.write_text(training.written())
    assert Training.read(path) == training
    path.write_text("rte = 3\n")
    with pytest.raises(TrainingError, match=r"no setting 'rte'.*the nearest is rate"):
        Training.read(path)
    assert training.settings["clip"] == 0.0
