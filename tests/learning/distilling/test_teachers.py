"""Teachers in fewer bytes, their kept answers, and an average that follows."""

import copy
from dataclasses import replace

import pytest
import torch
from lessons_nets import Convolutional, Perceptron
from torch import nn

from lilliput import Task
from lilliput.errors import OutputError, TrainingError
from lilliput.learning import Teaching, Training, distill
from lilliput.learning.distilling.kept_answers import keep_answers
from lilliput.learning.distilling.light_weights import lightened, parameter_bytes
from lilliput.learning.distilling.teachers import Average, Teachers
from lilliput.learning.material import material_of
from lilliput.model.hashes import state_hash

SHORT = Training(epochs=1, batch_size=50, rate=3e-3)


class Tagger(nn.Module):
    """Token numbers (N, T) with a mask -> class scores (N, T, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.look = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, input_ids, attention_mask):
        seen = self.words(input_ids)
        out, _ = self.look(seen, seen, seen, key_padding_mask=attention_mask == 0)
        return self.head(seen + out)


def sentences(count: int = 40) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 9, (count,), generator=draw)
    return [
        {
            "input_ids": torch.randint(1, 50, (int(length),), generator=draw),
            "attention_mask": torch.ones(int(length), dtype=torch.int64),
        }
        for length in lengths
    ]


@pytest.mark.parametrize(
    ("precision", "near"), [("float16", 1e-3), ("bfloat16", 8e-3), ("int8", 2e-2)]
)
def test_weights_in_fewer_bytes_answer_nearly_alike(digits, precision, near):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 64))
    before = state_hash(model)
    pixels = torch.stack([one for one, _ in digits[:64]])
    light = lightened(model, precision)
    wanted = model(pixels).detach()
    assert float((light(pixels).detach() - wanted).norm() / wanted.norm()) < near
    assert not light(pixels).equal(wanted)
    share = parameter_bytes(light) / parameter_bytes(model)
    assert share < (0.26 if precision == "int8" else 0.51)
    assert state_hash(model) == before and not any(p.requires_grad for p in light.parameters())
    assert lightened(model, "float32") is model


def test_embeddings_and_attention_are_kept_light():
    torch.manual_seed(0)
    model = Tagger().eval()
    light = lightened(model, "int8")
    one = {name: value[None] for name, value in sentences()[0].items()}
    wanted = model(**one).detach()
    assert float((light(**one).detach() - wanted).norm() / wanted.norm()) < 0.05
    assert parameter_bytes(light) < 0.45 * parameter_bytes(model)


def test_a_light_teacher_teaches_and_its_bytes_are_told(digits_task):
    torch.manual_seed(0)
    task = digits_task(Convolutional(16))
    before = state_hash(task.model)
    found = distill(task, student=Perceptron(), teaching=Teaching(precision="int8"), training=SHORT)
    whole = parameter_bytes(task.model)
    light = parameter_bytes(lightened(task.model, "int8"))
    assert f"teachers kept in int8: {light:,} of {whole:,} bytes" in found.notes
    assert state_hash(task.model) == before


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_kept_answers_teach_the_same(digits_task, tmp_path, where):
    torch.manual_seed(0)
    task, student = digits_task(Convolutional(16)), Perceptron()
    asked = []
    task.model.register_forward_hook(lambda *_: asked.append(1))
    keep = tmp_path / "answers" if where == "folder" else "memory"
    plain = distill(task, student=student, training=SHORT)
    anew = len(asked)
    kept = distill(task, student=student, teaching=Teaching(keep=keep), training=SHORT)
    for one, other in zip(kept.model.parameters(), plain.model.parameters(), strict=True):
        assert one.allclose(other, atol=1e-5)
    assert any("40,000 bytes" in note for note in kept.notes)  # 1,000 examples of 10 numbers
    if where == "folder":
        asked.clear()
        again = distill(task, student=student, teaching=Teaching(keep=keep), training=SHORT)
        assert len(asked) <= anew - 20  # none of the 20 batches was asked for again
        assert state_hash(again.model) == state_hash(kept.model)
        other = replace(task, model=Convolutional(8))
        distill(other, student=student, teaching=Teaching(keep=keep), training=SHORT)
        assert len(list(keep.glob("*.shapes.npy"))) == 2


class Flipped:
    """Examples that are turned round now and then, as augmentation does it."""

    def __init__(self, examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int):
        pixels, label = self.examples[index]
        return (pixels.flip(-1) if torch.rand(()) < 0.5 else pixels), label

    def fingerprint(self, index: int) -> bytes:
        return str(index).encode()


def test_answers_are_not_kept_of_inputs_that_change(digits_task, digits):
    task = digits_task(Convolutional(16), train=Flipped(digits[:1000]))
    with pytest.raises(TrainingError, match=r"kept answers are of other inputs than these"):
        distill(task, student=Perceptron(), teaching=Teaching(keep="memory"), training=SHORT)
    assert distill(task, student=Perceptron(), training=SHORT).steps == 20


def test_answers_that_need_too_many_bytes_are_not_kept(digits_task, tmp_path):
    task = digits_task(Convolutional(16))
    for keep in ("memory", tmp_path):
        teaching = Teaching(keep=keep, most_bytes=10_000)
        found = distill(task, student=Perceptron(), teaching=teaching, training=SHORT)
        told = "need about 40,000 bytes, most_bytes is 10,000: they are not kept"
        assert any(told in note for note in found.notes)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(digits_task, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match=r"answers cannot be kept in"):
        distill(
            digits_task(), student=Perceptron(), teaching=Teaching(keep=blocked), training=SHORT
        )


def test_kept_answers_of_positions_are_padded_as_their_batch_is():
    torch.manual_seed(0)
    task = Task(model=Tagger().eval(), examples=sentences())
    material = material_of(task, split=task.split(0), labelled=False, use="distillation")
    teachers = Teachers(task, Teaching())
    kept, _ = keep_answers(teachers, material, teaching=Teaching(keep="memory"), size=4)
    some = [material.example(place) for place in material.places[:7]]
    batch = task.batch(some)
    real = batch.mask.bool()
    found, wanted = kept.answers(batch), teachers.answers(batch)
    assert found.shape == wanted.shape
    assert found[0][real].allclose(wanted[0][real], atol=1e-5)
    lonely = task.batch(sorted(some, key=lambda one: len(one.input["input_ids"]))[:1])
    assert kept.answers(lonely).allclose(teachers.answers(lonely), atol=1e-5)


def test_an_average_follows_and_is_never_in_training_mode():
    torch.manual_seed(0)
    model = Convolutional()
    average = Average(model, 0.9)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for one in moved.parameters():
            one.add_(1.0)
    average.train()
    for _ in range(200):
        average.follow(moved)
    assert not any(module.training for module in average.modules())
    for one, other in zip(average.model.parameters(), moved.parameters(), strict=True):
        assert one.allclose(other, atol=1e-4) and not one.requires_grad


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"models": ("net",)}, r"a teacher is a torch.nn.Module, got str"),
        ({"models": (nn.Linear(1, 1),), "shares": (1.0, 2.0)}, r"2 shares for 1 teachers"),
        ({"models": (nn.Linear(1, 1),), "shares": (0.0,)}, r"out of range"),
        ({"average": 1.0}, r"average = 1 is out of range"),
        ({"precision": "int4"}, r"there is no precision 'int4'"),
        ({"keep": "disk"}, r"keep = 'disk' is unknown"),
        ({"most_bytes": 0}, r"most_bytes = 0 is out of range"),
        ({"average": 0.9, "keep": "memory"}, r"the student's average changes at every step"),
        ({"average": 0.9, "models": (nn.Linear(1, 1),)}, r"both say who teaches"),
    ],
)
def test_teaching_out_of_range_is_refused(fields, told):
    with pytest.raises(TrainingError, match=told):
        Teaching(**fields)
