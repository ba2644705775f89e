import io

import pytest
from clusters import files

from lilliput.sources import load_task_file
from lilliput.validation import check_task


@pytest.fixture
def answers(monkeypatch):
    def typed(*lines):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    typed()
    return typed


def test_options_make_a_task_that_runs(call, here):
    options = "--target net.py:Net --weights net.pt --data points.npz --metric accuracy"
    said = call("init", "own.py", *options.split())
    assert said.status == 0
    assert said.out == "wrote own.py\nnext: lilliput compress own.py --out out/\n"
    task = load_task_file("own.py")
    assert check_task(task).name == "accuracy" and len(task) == 3000


def test_questions_for_a_model_of_code(call, here, answers):
    answers("net.py:Net", "net.pt", "points.npz", "accuracy")
    said = call("init", "own.py")
    assert said.status == 0 and said.err.count(": ") == 4 + 5
    assert check_task(load_task_file("own.py")).name == "accuracy"
    answers("net.py:Net", "", "", "32", "")
    assert call("init", "bare.py").status == 0
    assert load_task_file("bare.py").sample().shape == (2, 32)


def test_an_existing_file_is_never_replaced(call, here):
    before = files(here)
    said = call("init", "task.py", "--target", "net.py:Net", "--shape", "32", "--yes")
    assert said.err == "error: task.py exists\nhint: init never replaces a file; name another\n"
    assert said.status == 2 and files(here) == before


def test_nobody_to_ask(call, here, answers):
    said = call("init", "own.py")
    assert said.status == 2 and "there is nobody to ask" in said.err
    said = call("init", "own.py", "--yes")
    assert said.status == 2 and "there is nothing to compress" in said.err
    assert not (here / "own.py").exists()
