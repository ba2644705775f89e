"""`distill` on the digits: what students learn, and that nothing happens to their teachers."""

import copy
from dataclasses import replace

import pytest
import torch
from lessons_nets import Convolutional, Perceptron
from torch import nn

from lilliput import Task
from lilliput.errors import CheckpointError, TaskError, TrainingError
from lilliput.learning import (
    Attention,
    Blocks,
    Features,
    Logits,
    Relations,
    Surroundings,
    Teaching,
    Training,
    distill,
    finetune,
)
from lilliput.model.hashes import state_hash

SHORT = Training(epochs=4, batch_size=50, rate=1e-2)


@pytest.fixture(scope="module")
def taught(digits):
    """A task whose model was trained on 1,000 digits."""
    torch.manual_seed(0)
    task = Task(
        model=Convolutional(16),
        train=digits[:1000],
        calibration=digits[1000:1100],
        search=digits[1100:1400],
        proof=digits[1400:],
        metric="accuracy",
    )
    model = finetune(task, training=Training(epochs=8, rate=1e-2)).model
    model.zero_grad(set_to_none=True)
    return replace(task, model=model)


def fresh(kind=Convolutional, *arguments, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return kind(*arguments)


def unlabelled(task: Task, count: int = 200) -> Task:
    inputs = [pixels for pixels, _ in task.train[:count]]
    search = [pixels for pixels, _ in task.search]
    return replace(task, train=inputs, search=search, proof=None, calibration=None, metric=None)


def test_a_student_of_unlabelled_pictures_comes_to_agree_with_its_teacher(taught):
    task = unlabelled(taught)
    before = state_hash(task.model)
    student = fresh(Perceptron)
    untouched = state_hash(student)
    found = distill(task, student=student, training=replace(SHORT, epochs=20))
    assert found.history[0].score < 0.3 and found.best.score > 0.75  # of 300 others
    assert found.history[-1].loss < 0.3 * found.history[1].loss
    assert state_hash(task.model) == before and state_hash(student) == untouched
    assert all(one.grad is None for one in task.model.parameters())
    assert isinstance(found.model, Perceptron) and not found.model.training


def test_the_same_seed_gives_the_same_student(taught):
    losses = (Logits(), Features())
    runs = [distill(taught, student=fresh(), losses=losses, training=SHORT) for _ in range(2)]
    other = distill(taught, student=fresh(), losses=losses, training=replace(SHORT, seed=1))
    hashes = [state_hash(run.model) for run in (*runs, other)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "loss",
    [
        Logits(temperature=2.0, targets=0.3),
        Features(),
        Features(pairs=(("blocks.1.conv", "blocks.0"), ("head:input", "head:input"))),
        Attention(),
        Relations(),
        Relations(pairs=(("head:input", "head:input"),)),
        Blocks(share=0.6),
    ],
    ids=lambda loss: f"{type(loss).__name__} {len(loss.pairs)}",
)
def test_every_loss_falls(taught, loss):
    found = distill(taught, student=fresh(), losses=loss, training=replace(SHORT, epochs=6))
    losses = [moment.loss for moment in found.history[1:]]
    assert (
        losses[-1]
        < (1 if isinstance(loss, Blocks) else 0.85) * losses[6 if isinstance(loss, Blocks) else 0]
    )


def test_places_are_found_by_name_evenly_and_at_the_heads(taught):
    def pairs(student):
        found = distill(taught, student=student, losses=Features(), training=Training(steps=1))
        return next(note for note in found.notes if note.startswith("features"))

    assert pairs(fresh()) == (
        "features compared: blocks.0 to blocks.0, blocks.1 to blocks.1, blocks.2 to blocks.2"
    )
    shallow = fresh()
    shallow.blocks = shallow.blocks[:2]
    assert pairs(shallow) == "features compared: blocks.1 to blocks.0, blocks.2 to blocks.1"
    assert pairs(fresh(Perceptron)) == "features compared: head:input to head:input"


def test_the_average_of_the_student_teaches_it(taught):
    teaching = Teaching(average=0.9)
    found = distill(
        taught, student=fresh(), losses=Logits(targets=0.5), teaching=teaching, training=SHORT
    )
    alone = finetune(replace(taught, model=fresh()), training=SHORT)
    assert found.best.score > 0.7
    assert state_hash(found.model) != state_hash(alone.model)
    with pytest.raises(TrainingError, match=r"learns nothing from its own average alone"):
        distill(taught, student=fresh(), teaching=teaching)


def test_a_student_is_born_again(taught):
    found = distill(taught, student="again", training=SHORT)
    assert type(found.model) is Convolutional and found.history[0].score < 0.3
    assert found.best.score > 0.8


def test_a_share_makes_a_narrower_student_that_inherits(taught):
    found = distill(taught, student=0.5, training=SHORT)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (found.model, taught.model)]
    assert sizes[0] < 0.6 * sizes[1] and type(found.model) is Convolutional
    assert found.best.score > 0.8 and all(p.requires_grad for p in found.model.parameters())


def test_several_teachers_are_weighted(taught):
    other = distill(taught, student="again", training=SHORT).model
    short = replace(SHORT, epochs=1)

    def run(**fields):
        teaching = Teaching(models=(taught.model, other), **fields)
        return distill(taught, student=fresh(), teaching=teaching, training=short)

    alike, first = run(), run(shares=(1.0, 1e-9))
    alone = distill(taught, student=fresh(), training=short)
    wanted = dict(alone.model.named_parameters())
    assert all(p.allclose(wanted[n], atol=1e-4) for n, p in first.model.named_parameters())
    assert not all(p.allclose(wanted[n], atol=1e-4) for n, p in alike.model.named_parameters())


@pytest.mark.parametrize("losses", [(Logits(), Features()), (Logits(targets=0.5), Blocks())])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_stopped_run_goes_on_and_ends_with_the_same_weights(taught, tmp_path, losses, average):
    if average and not getattr(losses[0], "targets", 0):
        losses = (Logits(targets=0.5), Features())
    student = fresh(Convolutional, 12)
    given = {"losses": losses, "teaching": Teaching(average=average), "training": SHORT}
    whole = distill(taught, student=student, **given)
    stopped = Surroundings(folder=tmp_path, stop=lambda moment: moment.step >= 20)
    part = distill(taught, student=student, around=stopped, **given)
    assert part.steps < whole.steps
    rest = distill(taught, student=student, around=Surroundings(folder=tmp_path), **given)
    assert rest.resumed == part.steps
    assert state_hash(rest.model) == state_hash(whole.model)


def test_a_checkpoint_is_of_one_teacher_and_its_losses(taught, tmp_path):
    around = Surroundings(folder=tmp_path, stop=lambda moment: moment.step >= 20)
    distill(taught, student=fresh(), training=SHORT, around=around)
    for changes in ({"losses": Logits(temperature=2.0)}, {"teaching": Teaching(precision="int8")}):
        with pytest.raises(CheckpointError, match=r"is of another run"):
            distill(taught, student=fresh(), training=SHORT, around=around, **changes)
    other = replace(taught, model=fresh(Convolutional, 16))
    with pytest.raises(CheckpointError, match=r"is of another run: teachers was"):
        distill(other, student=fresh(), training=SHORT, around=around)


def test_numbers_are_learned_by_squares(taught):
    class Embedding(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels):
            return nn.functional.normalize(self.net(pixels), dim=1)

    task = replace(unlabelled(taught), model=Embedding(taught.model))
    found = distill(task, student=Embedding(fresh(Perceptron)), training=SHORT)
    assert found.history[0].score < 0.5 < found.best.score  # cosine
    assert found.history[-1].loss < 0.5 * found.history[1].loss


def test_frozen_parts_of_a_student_stay_as_they_are(taught):
    student = fresh()
    student.stem.requires_grad_(False)
    found = distill(taught, student=student, training=replace(SHORT, epochs=1))
    assert found.model.stem.weight.equal(student.stem.weight)
    assert not found.model.stem.weight.requires_grad
    assert not found.model.head.weight.equal(student.head.weight)


def test_misfits_are_refused(taught):
    def refused(told, kind=TrainingError, task=taught, **fields):
        with pytest.raises(kind, match=told):
            distill(task, **({"student": fresh()} | fields))

    five = fresh(Perceptron, 32, 5)
    refused(r"the teacher tells 10 classes apart, the student 5", student=five)
    named = replace(taught, label_names=tuple("abcdefghij"))
    refused(r"10 classes apart \(a, b, c", student=five, task=named)
    refused(r"the teacher is the student", student=taught.model)
    refused(r"the student, called as model\(x\) on \(2, 1, 8, 8\), failed", TaskError,
            student=nn.Linear(3, 10))  # fmt: skip
    refused(r"the student is 'small'", student="small")
    refused(r"student = 1.5 is out of range", student=1.5)
    refused(r"no module 'blocks.8' \(the nearest is blocks\.\d", losses=Features(
        pairs=(("blocks.8", "blocks.0"),)))  # fmt: skip
    refused(r"the student has no module 'hed' \(the nearest is head\)", losses=Features(
        pairs=(("head", "hed"),)))  # fmt: skip
    refused(r"kept answers hold no features", losses=Features(), teaching=Teaching(keep="memory"))
    refused(r"kept answers are of other inputs than augmented", teaching=Teaching(keep="memory"),
            training=Training(steps=1, augmentation="flip"))  # fmt: skip
    refused(r"is no loss of distillation", losses=(nn.Linear(2, 2),))
    refused(r"no attention was found", student=fresh(Perceptron), losses=Attention())
    refused(r"cannot be compared", losses=Features(pairs=(("stem", "head"),)))


def test_there_must_be_examples(taught):
    bare = Task(model=taught.model, example_inputs=torch.zeros(2, 1, 8, 8))
    with pytest.raises(TrainingError, match=r"distillation needs examples to learn from"):
        distill(bare, student=fresh())
    with pytest.raises(TrainingError, match=r"distillation needs a target"):
        distill(unlabelled(taught), student=fresh(), losses=Logits(targets=0.5))


def test_some_targets_may_be_missing_where_none_is_learned_from(taught):
    mixed = [item if place % 2 else item[0] for place, item in enumerate(taught.train[:100])]
    found = distill(replace(taught, train=mixed), student=fresh(), training=Training(steps=4))
    assert found.steps == 4


def test_without_training_examples_calibration_examples_teach(taught):
    found = distill(replace(taught, train=None), student=fresh(), training=SHORT)
    assert any("calibration examples" in note for note in found.notes)
    assert found.best.score > found.history[0].score


def test_a_deep_copy_of_the_teacher_agrees_from_the_beginning(taught):
    task = unlabelled(taught)
    found = distill(task, student=copy.deepcopy(task.model), training=Training(steps=2))
    assert found.history[0].score == 1.0


@pytest.mark.parametrize("augmentation", ["rotate(degrees=10)", "mixup(alpha=1)"])
def test_teachers_answer_what_augmentation_made(taught, augmentation):
    training = replace(SHORT, augmentation=augmentation)
    asked = []
    task = unlabelled(taught, 100)
    hook = task.model.register_forward_hook(lambda _, args, out: asked.append(args[0]))
    found = distill(task, student=fresh(), training=replace(training, epochs=1))
    hook.remove()
    originals = torch.stack(list(task.train))
    same = [bool((row == originals).all((1, 2, 3)).any()) for row in asked[-1]]
    assert found.steps == 2 and sum(same) < len(same) / 4
