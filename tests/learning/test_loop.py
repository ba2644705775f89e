import copy
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lessons_nets import Convolutional, Perceptron
from torch import nn

from lilliput.errors import CheckpointError, OutputError, TrainingError
from lilliput.learning import Surroundings, Training, finetune
from lilliput.learning.checkpoints import EARLIER, NAME
from lilliput.learning.lesson import Supervised
from lilliput.learning.loop import ROLLBACKS, learn
from lilliput.learning.material import material_of
from lilliput.learning.step_costs import step_bytes
from lilliput.model.hashes import state_hash

HERE = Path(__file__).parent
SHORT = {"epochs": 2, "rate": 0.02, "batch_size": 50}


def test_it_learns_and_leaves_the_model_and_the_random_numbers_alone(digits_task):
    task = digits_task()
    before = state_hash(task.model)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    wanted = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    found = finetune(task, training=Training(**SHORT))
    assert (random.random(), np.random.rand(), torch.rand(1)) == wanted
    assert state_hash(task.model) == before
    assert found.history[0].score < 0.3 < 0.85 < found.best.score
    assert found.steps == 40 and found.history[-1].loss < found.history[1].loss
    assert not found.model.training
    assert all(p.requires_grad for p in found.model.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(digits_task):
    task = digits_task(Convolutional())
    first, second, other = (
        finetune(task, training=Training(steps=12, rate=0.05, seed=seed)).model
        for seed in (0, 0, 1)
    )
    assert state_hash(first) == state_hash(second) != state_hash(other)


def test_two_half_batches_are_one_batch(digits_task):
    task = digits_task()
    plain = {"steps": 6, "optimizer": "sgd", "rate": 0.1, "clip": 0}
    whole = finetune(task, training=Training(batch_size=64, **plain)).model
    halves = finetune(task, training=Training(batch_size=32, accumulate=2, **plain)).model
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{"precision": "bfloat16"}, {"average": 0.9}])
def test_other_ways_to_train_learn_too_and_leave_a_plain_model(digits_task, fields, tmp_path):
    found = finetune(digits_task(), training=Training(**SHORT, **fields))
    assert found.best.score > 0.8
    assert "forward" not in vars(found.model) and type(found.model) is Perceptron
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    torch.save(found.model, tmp_path / "whole.pt")  # nothing of the loop clings to it


def test_the_average_is_what_is_kept(digits_task):
    task = digits_task()
    plain = finetune(task, training=Training(steps=30, rate=5e-3)).model
    average = finetune(task, training=Training(steps=30, rate=5e-3, average=0.99)).model
    assert state_hash(plain) != state_hash(average)


def test_minutes_become_steps_that_give_the_same_weights_again(digits_task):
    task = digits_task()
    timed = finetune(task, training=Training(minutes=0.01))
    assert timed.training.minutes is None and timed.training.steps == timed.steps >= 1
    again = finetune(task, training=timed.training)
    assert state_hash(again.model) == state_hash(timed.model)


def test_it_ends_when_nothing_gets_better_and_keeps_the_best(digits_task):
    task = digits_task()
    training = Training(steps=400, rate=1e-6, every=5, patience=2, batch_size=16)
    found = finetune(task, training=training)
    assert found.steps < 400 and "no better score in 2 evaluations" in found.notes[-1]
    assert found.best.score == max(moment.score for moment in found.history)


def test_norms_can_stand_still(digits_task):
    task = digits_task(Convolutional())
    found = finetune(task, training=Training(steps=5, freeze_norms=0.0))
    before, after = (dict(model.named_buffers()) for model in (task.model, found.model))
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = finetune(task, training=Training(steps=20, rate=0.05)).model
    assert not torch.equal(before["blocks.0.norm.running_mean"], moved.blocks[0].norm.running_mean)


class Explosive(Supervised):
    """Its loss is no number in the 13th step, `often` times."""

    def __init__(self, task, often):
        super().__init__(task)
        self.steps, self.often = 0, often

    def loss(self, model, batch, *, targets):
        self.steps += 1
        found = super().loss(model, batch, targets=targets)
        if self.steps >= 13 and self.often:
            self.often -= 1
            self.steps = 10
            return found * float("nan")
        return found


def taught(task, lesson, training, **others):
    material = material_of(task, split=task.split(0), labelled=True, use="a test")
    model = copy.deepcopy(task.model)
    return learn(model, lesson, material=material, training=training, **others)


def test_a_run_that_diverges_goes_back_and_lowers_its_rate(digits_task):
    task, told = digits_task(), []
    around = Surroundings(said=told.append)
    lesson = Explosive(task, often=2)
    found = taught(task, lesson, Training(steps=30, every=10), around=around)
    assert len(told) == 2 and told[0] == (
        "the loss was not a number at step 12: back to step 10, at 0.5 of the rate"
    )
    assert "at 0.25 of the rate" in told[1] and set(told) <= set(found.notes)
    assert found.steps == 30 and all(bool(p.isfinite().all()) for p in found.model.parameters())


def test_a_run_that_diverges_at_any_rate_is_given_up(digits_task):
    task = digits_task()
    with pytest.raises(TrainingError, match="given up: the loss was not a number at step 12"):
        taught(task, Explosive(task, often=ROLLBACKS + 1), Training(steps=30, every=10))


def test_a_weight_that_is_no_number_is_rolled_back_too(digits_task):
    task = digits_task(loss=lambda outputs, targets: _cliff(outputs, targets))
    training = Training(steps=40, optimizer="sgd", rate=1e30, clip=0, every=5)
    with pytest.raises(TrainingError, match="given up"):
        finetune(task, training=training)


def _cliff(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)


SCRIPT = """
import sys, time
from pathlib import Path
import torch
sys.path.insert(0, {here!r})
from lessons_nets import Convolutional
from sklearn.datasets import load_digits
from lilliput import Task
from lilliput.learning import Surroundings, Training, finetune

torch.set_num_threads(1)
digits = load_digits()
pixels = torch.from_numpy(digits.images.astype("float32") / 16)[:, None]
examples = [(x, int(y)) for x, y in zip(pixels, digits.target)]
torch.manual_seed(0)
task = Task(model=Convolutional(), metric="accuracy", train=examples[:600],
            calibration=examples[600:700], search=examples[700:800], proof=examples[800:])
folder = Path(sys.argv[1])
slow = float(sys.argv[2])
around = Surroundings(
    folder=folder, said=lambda line: print(line, flush=True), progress=lambda *_: time.sleep(slow)
)
found = finetune(task, training=Training(steps=60, every=6, average=0.9), around=around)
torch.save(found.model.state_dict(), folder / "end.pt")
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(here=str(HERE)))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, str(script)]
    subprocess.run([*command, str(whole), "0"], check=True)
    process = subprocess.Popen([*command, str(broken), "0.05"])
    deadline = time.monotonic() + 120
    while not (broken / EARLIER).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (broken / "end.pt").exists()
    done = subprocess.run([*command, str(broken), "0"], check=True, capture_output=True, text=True)
    assert "went on from step" in done.stdout
    first, second = (torch.load(one / "end.pt", weights_only=True) for one in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


LAUNCHED = """
import sys
sys.path.insert(0, {here!r})
import torch
from lessons_nets import Perceptron
from sklearn.datasets import load_digits
from lilliput import Task
from lilliput.learning import Training, finetune

digits = load_digits()
pixels = torch.from_numpy(digits.images.astype("float32") / 16)[:, None]
examples = [(x, int(y)) for x, y in zip(pixels, digits.target)]
torch.manual_seed(0)
task = Task(model=Perceptron(), metric="accuracy", train=examples[:600],
            calibration=examples[600:700], search=examples[700:800], proof=examples[800:])
found = finetune(task, training=Training(steps=10, optimizer="sgd", rate=0.1))
torch.save(found.model.state_dict(), sys.argv[1])
"""


def test_two_processes_learn_what_one_learns(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(LAUNCHED).format(here=str(HERE)))
    subprocess.run([sys.executable, str(script), str(tmp_path / "one.pt")], check=True)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=2"]
    options = ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    port = ["--main_process_port=0"]
    subprocess.run(
        [*launch, *options, *port, str(script), str(tmp_path / "two.pt")],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


def stopped(step):
    """Ends a run at an evaluation."""
    return lambda moment: moment.step >= step


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(digits_task, tmp_path):
    task, training = digits_task(Convolutional()), Training(steps=20, every=5)
    whole = finetune(task, training=training)
    finetune(task, training=training, around=Surroundings(folder=tmp_path, stop=stopped(10)))
    path = tmp_path / NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    told = []
    found = finetune(
        task, training=training, around=Surroundings(folder=tmp_path, said=told.append)
    )
    assert "is damaged" in told[0] and told[1] == "went on from step 5 of 20"
    assert found.resumed == 5 and state_hash(found.model) == state_hash(whole.model)
    for name in (NAME, EARLIER):
        (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"is damaged.*remove .* to start anew"):
        finetune(task, training=training, around=Surroundings(folder=tmp_path))


def test_a_checkpoint_of_another_run_is_refused(digits_task, tmp_path):
    task, around = digits_task(), Surroundings(folder=tmp_path)
    finetune(task, training=Training(steps=4), around=around)
    with pytest.raises(CheckpointError, match=r"of another run: rate was 0.001, is 0.002"):
        finetune(task, training=Training(steps=4, rate=2e-3), around=around)
    with pytest.raises(CheckpointError, match=r"of another run: reach was"):
        finetune(task, training=Training(steps=4), reach="head", around=around)


def test_a_full_disk_is_told_and_the_last_checkpoint_is_kept(digits_task, tmp_path):
    task, training = digits_task(Perceptron(256)), Training(steps=8, every=4)
    around = Surroundings(folder=tmp_path, stop=stopped(4))
    finetune(task, training=training, around=around)
    before = (tmp_path / NAME).read_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OutputError, match="the checkpoint could not be written"):
            finetune(task, training=training, around=Surroundings(folder=tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (tmp_path / NAME).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {NAME}
    assert finetune(task, training=training, around=Surroundings(folder=tmp_path)).resumed == 4


def test_a_finished_run_is_not_run_again(digits_task, tmp_path):
    task, around = digits_task(), Surroundings(folder=tmp_path)
    first = finetune(task, training=Training(steps=6), around=around)
    again = finetune(task, training=Training(steps=6), around=around)
    assert again.resumed == 6 and state_hash(first.model) == state_hash(again.model)


def test_what_is_evaluated_is_logged(digits_task, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = Training(steps=10, every=5, loggers=("tensorboard",))
    found = finetune(digits_task(), training=training, around=Surroundings(folder=tmp_path))
    events = EventAccumulator(str(tmp_path / "lilliput")).Reload()
    scores = [(event.step, event.value) for event in events.Scalars("score")]
    assert scores == [(m.step, pytest.approx(m.score)) for m in found.history[1:]]


def test_a_step_of_a_larger_batch_or_model_holds_more_memory(digits_task):
    def held(model, size):
        task = digits_task(model)
        material = material_of(task, split=task.split(0), labelled=True, use="a test")
        training = Training(batch_size=size)
        return step_bytes(task.model, Supervised(task), material=material, training=training)

    small, wide = held(Perceptron(32), 16), held(Perceptron(512), 16)
    weights = 4 * sum(p.numel() for p in Perceptron(512).parameters())
    assert wide > 3 * weights, "gradients and two moments"
    assert small < wide < held(Perceptron(512), 256)
    assert held(Perceptron(512), 16) == wide
