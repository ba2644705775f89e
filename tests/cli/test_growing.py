"""`lilliput grow` and `lilliput shrink-to`: files that answer, weights that go on, and refusals."""

import json

import numpy as np
import pytest
import torch
from clusters import files

import lilliput
from lilliput.runtime.sessions import default_session
from lilliput.sources import load_task_file

TOWER = """
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        return x + self.down(self.up(self.norm(x)).relu())


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.last = nn.Linear(32, 16), nn.Linear(16, 6)
        self.blocks = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)
"""
TOWER_TASK = """
import torch
import lilliput
from tower import Tower


def task():
    torch.manual_seed(0)
    model = Tower()
    for place, scale in enumerate((1.0, 0.001, 1.0, 0.001)):
        torch.nn.init.zeros_(model.blocks[place].down.bias)
        model.blocks[place].down.weight.data *= scale
    examples = lilliput.arrays("points.npz")
    return lilliput.Task(model=model, examples=examples, metric="accuracy", name="tower")
"""


@pytest.fixture
def tower(here):
    """A task of four blocks, of which the second and the fourth hardly do anything."""
    (here / "tower.py").write_text(TOWER)
    (here / "tower_task.py").write_text(TOWER_TASK)
    return load_task_file("tower_task.py").model


def points(count=5):
    return torch.from_numpy(np.load("points.npz")["inputs"][:count])


def fresh(original):
    """A new instance of its class, with other weights."""
    torch.manual_seed(7)
    return type(original)().eval()


def answers_of_the_file(folder, inputs):
    session = default_session(folder / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return torch.from_numpy(found)


def rows_within(part, whole):
    """For each row, which row of another matrix it is."""
    same = (part[:, None] == whole[None]).all(-1)
    assert same.any(1).all()
    return same.int().argmax(1).tolist()


def test_a_wider_model_is_a_file_and_loads_into_the_class(call, here):
    said = call("grow", "task.py", "--out", "wide", "--width", "1.5")
    assert said.status == 0, said.err
    assert said.out.startswith("wide: 3,750 parameters, before 2,502\nmodel.onnx: ")
    assert 'lilliput.load("wide", model=...) gives your class this shape' in said.out
    original = load_task_file("task.py").model
    loaded = lilliput.load(here / "wide", model=fresh(original))
    assert loaded.hidden.out_features == 96 and loaded.head.weight.shape == (6, 96)
    with torch.no_grad():
        wanted = original(points())
        assert torch.allclose(loaded(points()), wanted, atol=1e-4)
    assert torch.allclose(answers_of_the_file(here / "wide", points()), wanted, atol=1e-4)


def test_growing_as_one_document(call, here):
    words = "--width 2 --noise 0.2 --classes 2 --json"
    document = call("grow", "task.py", "--out", "wide", *words.split()).document
    assert document["how"] == "class" and document["reloads"] and document["notes"] == []
    assert document["parameters"] == [2502, 128 * 33 + 8 * 129]
    assert 0 <= document["difference"] < 1e-5
    assert document["files"].keys() == files(here / "wide").keys() - {"manifest.json"}
    for name, size in document["files"].items():
        assert (here / "wide" / name).stat().st_size == size
    manifest = json.loads((here / "wide" / "manifest.json").read_text())
    steps = [step["technique"] for step in manifest["plan"]["steps"]]
    assert steps == ["grow_classes", "grow_width"]


def test_a_deeper_model(call, tower, here):
    said = call("grow", "tower_task.py", "--out", "deep", "--depth", "2", "--json")
    assert said.status == 0, said.err
    assert said.document["difference"] < 1e-5
    loaded = lilliput.load("deep", model=fresh(tower))
    with torch.no_grad():
        assert len(loaded.blocks) == 6
        assert torch.allclose(loaded(points()), tower(points()), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("--width 1.5 --widths hiden", "has no width 'hiden'", "did you mean hidden?"),
        ("--width 0.5", "factor = 0.5", "greater than 1"),
        ("--width 1", "factor = 1.0", "greater than 1"),
        ("--width wide", "--width", ""),
        ("--depth 0", "blocks = 0", "greater than or equal to 1"),
        ("--resolution 2", "the inputs are no images", ""),
        ("--vocabulary 3", "no embedding", ""),
        ("", "nothing is to grow", "give one of classes, vocabulary, depth, width"),
    ],
)
def test_what_cannot_grow_is_one_line_and_leaves_nothing(call, here, words, message, hint):
    before = files(here)
    said = call("grow", "task.py", "--out", "wide", *words.split())
    assert (said.status, said.out) == (2, ""), said
    assert said.err.startswith("error: ") and message in said.err and hint in said.err
    assert files(here) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--width 0", "width = 0 is out of range"),
        ("--width 1.5", "width = 1.5 is out of range"),
        ("--width nan", "width = nan is out of range"),
        ("--depth 0", "depth = 0 is out of range"),
        ("--width 1", "nothing is to shrink"),
        ("--depth 0.5", "the model has no repeated blocks that could go"),
        ("--criterion magnitud", "did you mean narrow_magnitude?"),
        ("--choice nearest", "--choice"),
    ],
)
def test_what_cannot_shrink_is_one_line_and_leaves_nothing(call, here, words, message):
    before = files(here)
    said = call("shrink-to", "task.py", "--out", "small", *words.split())
    assert (said.status, said.out) == (2, ""), said
    assert said.err.startswith("error: ") and message in said.err
    assert files(here) == before


@pytest.mark.parametrize("command", ["grow", "shrink-to"])
def test_an_existing_folder_is_replaced_only_by_force_and_only_if_it_is_ours(call, here, command):
    growth = ["--width", "2"] if command == "grow" else []
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("mine")
    for force in ([], ["--force"]):
        said = call(command, "task.py", "--out", "mine", *growth, *force)
        assert said.status == 2 and said.err.startswith("error: ") and "mine" in said.err
    assert files(here / "mine") == {"notes.txt": b"mine"}
    assert call(command, "task.py", "--out", "new", *growth).status == 0
    before = files(here / "new")
    said = call(command, "task.py", "--out", "new", *growth)
    assert said.status == 2 and "--force replaces it" in said.err and files(here / "new") == before
    assert call(command, "task.py", "--out", "new", *growth, "--force").status == 0


def test_a_student_inherits_its_weights(call, here):
    said = call("shrink-to", "task.py", "--out", "small", "--json")
    assert said.status == 0, said.err
    original = load_task_file("task.py").model
    student = lilliput.load("small", model=fresh(original))
    stay = rows_within(student.hidden.weight, original.hidden.weight)
    assert len(stay) == 32 and len(set(stay)) == 32
    assert torch.equal(student.hidden.bias, original.hidden.bias[stay])
    assert said.document["parameters"] == [2502, 32 * 33 + 6 * 33]
    assert not torch.equal(student.head.weight, original.head.weight[:, stay])  # fitted anew
    assert any("fitted anew" in note for note in said.document["notes"])


@pytest.mark.parametrize(("choice", "stay"), [("evenly", (0, 2)), ("measured", (0, 2))])
def test_a_shorter_student_keeps_whole_blocks(call, tower, choice, stay):
    words = f"--width 1 --depth 0.5 --choice {choice}"
    said = call("shrink-to", "tower_task.py", "--out", "short", *words.split())
    assert said.status == 0, said.err
    student = lilliput.load("short", model=fresh(tower))
    same_blocks(student, tower, stay)
    with torch.no_grad():
        assert torch.allclose(student(points()), tower(points()), atol=0.02)


def test_half_of_the_blocks_and_of_their_units_at_once(call, tower, here):
    said = call("shrink-to", "tower_task.py", "--out", "tiny", "--depth", "0.5")
    assert said.status == 0, said.err
    student = lilliput.load("tiny", model=fresh(tower))
    assert [block.up.weight.shape for block in left(student)] == [(16, 8), (16, 8)]
    assert student.enter.weight.shape == (8, 32)
    assert rows_within(student.enter.weight, tower.enter.weight)


def left(model):
    """The blocks that were not dropped, in order."""
    return [block for block in model.blocks if hasattr(block, "up")]


def same_blocks(student, original, stay):
    for block, place in zip(left(student), stay, strict=True):
        wanted = original.blocks[place].state_dict()
        found = block.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    for name in ("enter", "last"):
        one, other = student.get_submodule(name), original.get_submodule(name)
        assert torch.equal(one.weight, other.weight)
