import sys

import pytest
import torch

from lilliput.errors import CheckpointError, TaskError
from lilliput.sources import load_task_file, model_from_spec

HEAD = "import torch\nfrom torch import nn\nfrom lilliput.task import Task\n"
TASK = "Task(model=nn.Linear(2, 2), examples=[torch.zeros(2)], name='mine')"


@pytest.fixture
def write(tmp_path):
    def writer(content, name="t.py"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return writer


@pytest.mark.parametrize("body", [f"task = {TASK}", f"def task():\n    return {TASK}"])
def test_a_task_or_a_function(write, body):
    path = list(sys.path)
    assert load_task_file(write(HEAD + body)).name == "mine"
    assert sys.path == path


def test_a_file_next_to_it_can_be_imported(write):
    write("from torch import nn\nclass Neighbour(nn.Linear): ...\n", "neighbour_of_a_test.py")
    body = "def task():\n    from neighbour_of_a_test import Neighbour\n    return "
    found = load_task_file(write(HEAD + body + TASK.replace("nn.Linear", "Neighbour")))
    assert type(found.model).__name__ == "Neighbour"
    del sys.modules["neighbour_of_a_test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "defines no task"),
        ("task = 5", "task in .* is a int, not a lilliput.Task"),
        ("def task(): return None", "is a NoneType, not a lilliput.Task"),
        ("\n1 / 0", r"t\.py failed: ZeroDivisionError: .*t\.py, line 2"),
        ("def task(:", r"t\.py failed: SyntaxError: .*t\.py, line 1"),
        ("import no_such_module_here", r"t\.py failed: ModuleNotFoundError.*line 1"),
        ("import sys\nsys.exit(2)", r"t\.py failed: SystemExit: 2 .*line 2"),
        (f"{HEAD}task = Task(model=nn.Linear(2, 2), examples=[])", "there are no examples"),
        ("def task():\n    raise ValueError('a\\nb')", r"ValueError: a b \(.*line 2"),
    ],
)
def test_files_that_cannot_be_used(write, content, message):
    before = set(sys.modules)
    with pytest.raises(TaskError, match=message) as caught:
        load_task_file(write(content))
    assert "\n" not in str(caught.value)
    assert not {name for name in set(sys.modules) - before if "t_" in name and "1 / 0" in content}


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(TaskError, match=r"nowhere\.py is missing"):
        load_task_file(tmp_path / "nowhere.py")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(TaskError, match="is not a Python file"):
        load_task_file(tmp_path / "a.txt")


NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(width, 2)
class Wants(Net):
    def __init__(self, classes):
        super().__init__(classes)
def build():
    return Net(3)
made = Net(4)
number = 5
def wrong():
    return {}
"""


@pytest.mark.parametrize(("name", "width"), [("Net", 2), ("build", 3), ("made", 4)])
def test_a_model_by_its_name(write, name, width):
    model = model_from_spec(f"{write(NET)}:{name}")
    assert model.layer.in_features == width


def test_a_model_with_weights(write, tmp_path):
    state = {"layer.weight": torch.ones(2, 2), "layer.bias": torch.zeros(2)}
    torch.save(state, tmp_path / "net.pt")
    model = model_from_spec(f"{write(NET)}:Net", weights=tmp_path / "net.pt")
    assert torch.equal(model.layer.weight, torch.ones(2, 2))
    with pytest.raises(CheckpointError, match=r"layer\.weight has shape"):
        model_from_spec(f"{write(NET)}:build", weights=tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nett", r"has no Nett \(it defines Net, Wants, build, made, wrong"),
        ("number", "number in .* is a int, not a model"),
        ("wrong", r"wrong\(\) in .* returned dict, not an nn.Module"),
        ("Wants", r"t\.py:Wants failed: TypeError: .*classes"),
        ("a b", r"is not FILE\.py:NAME"),
    ],
)
def test_names_that_make_no_model(write, name, message):
    with pytest.raises(TaskError, match=message):
        model_from_spec(f"{write(NET)}:{name}")
