import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lilliput.errors import TaskError
from lilliput.sources import TaskArguments, draft_task, load_task_file, source_bytes, task_to_verify

NET = "from torch import nn\ndef build():\n    return nn.Linear(4, 3)\nready = nn.Linear(4, 3)\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "net.pt")
    np.savez(tmp_path / "in.npz", inputs=np.ones((20, 4), np.float32), targets=np.arange(20) % 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drafted(place, **arguments):
    path = place / "task_file.py"
    path.write_text(draft_task(TaskArguments(**arguments), path))
    return load_task_file(path)


def test_code_beside_the_task_file(here):
    task = drafted(here, target="net.py:build", weights="net.pt", data="in.npz", metric="accuracy")
    assert "from net import build" in (here / "task_file.py").read_text()
    wanted = torch.load("net.pt", weights_only=True)["weight"]
    assert torch.equal(task.model.weight, wanted) and task.metric == "accuracy" and len(task) == 20
    assert isinstance(drafted(here, target="net.py:ready", shape="4").model, nn.Linear)


def test_code_somewhere_else_and_a_folder_that_moves(here):
    (here / "deep").mkdir()
    task = drafted(here / "deep", target="net.py:build", weights="net.pt", data="in.npz")
    assert torch.equal(task.model.weight, torch.load("net.pt", weights_only=True)["weight"])
    assert str(here) not in (here / "deep" / "task_file.py").read_text()


def test_images_with_their_options(here):
    for n in range(4):
        (here / "my photos").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (n, 20, 30)).save(here / "my photos" / f"{n}.png")
    task = drafted(here, target="net.py:build", images="my photos", size=8, mean=(0.5, 0.4, 0.3))
    assert task.sample().shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "net.py"}, "is not FILE.py:NAME"),
        ({"target": "other.py:Net", "shape": "4"}, "there is no other.py"),
        ({"target": "net.py:Net", "shape": "4"}, "net.py has no Net"),
        ({"target": "net.py:build"}, "needs data"),
        ({"target": "net.py:build", "data": "nowhere.npz"}, "there is no nowhere.npz"),
        ({"target": "net.py:build", "shape": "4", "weights": "no.pt"}, "there is no no.pt"),
        ({"target": "."}, "no Hugging Face folder"),
    ],
)
def test_what_does_not_exist(here, arguments, message):
    with pytest.raises(TaskError, match=message.replace(".", r"\.")):
        draft_task(TaskArguments(**arguments), here / "task_file.py")


def test_broken_python(here):
    (here / "net.py").write_text("def (")
    with pytest.raises(TaskError, match="is not valid Python"):
        draft_task(TaskArguments(target="net.py:Net", shape="4"), here / "task_file.py")


def test_new_data_beside_a_task_file(here):
    drafted(here, target="net.py:build", data="in.npz", metric="accuracy")
    np.savez(here / "new.npz", inputs=np.zeros((7, 4), np.float32), targets=np.zeros(7, int))
    task, new = task_to_verify(TaskArguments(target="task_file.py", data="new.npz"))
    assert (len(task), new, task.metric) == (7, True, "accuracy")
    task, new = task_to_verify(TaskArguments(target="task_file.py"))
    assert (len(task), new) == (20, False)
    with pytest.raises(TaskError, match="--weights does not go with"):
        task_to_verify(TaskArguments(target="task_file.py", data="new.npz", weights="net.pt"))


def test_bytes_of_the_checkpoint(here):
    size = (here / "net.pt").stat().st_size
    assert source_bytes(TaskArguments(target="net.py:build", weights="net.pt")) == size
    assert source_bytes(TaskArguments(target="net.py:build", weights="nowhere.pt")) is None
    assert source_bytes(TaskArguments(target="task.py")) is None
    (here / "model.safetensors").write_bytes(b"12345")
    (here / "more.safetensors").write_bytes(b"123")
    (here / "old.bin").write_bytes(b"1")
    assert source_bytes(TaskArguments(target=".")) == 8
