import os
import subprocess
import sys

from lilliput.cli.screen import Screen

NOISY = "import subprocess; print('noise'); subprocess.run(['echo', 'more'], check=True)\n"


def test_json_keeps_standard_output_clean(call, here):
    (here / "loud.py").write_text(NOISY + (here / "task.py").read_text() + "\nraise KeyError\n")
    said = call("compress", "loud.py", "--out", "out", "--json")
    assert said.document["exit_status"] == said.status == 2
    assert "noise" in said.err and "more" in said.err
    said = call("compress", "loud.py", "--out", "out")
    assert said.out.splitlines() == ["noise", "more"]


def test_bars_need_a_terminal(capfd):
    screen = Screen()
    with screen.working():
        screen.progress("calibrate", 0, 3)
        screen.said("[bold]a line[/bold]")
        screen.progress("calibrate", 5, 3)
    screen.show("x" * 300, {})
    told = capfd.readouterr()
    assert (told.err, told.out) == ("[bold]a line[/bold]\n", "x" * 300 + "\n")


def test_json_is_quiet(capfd):
    screen = Screen(as_json=True)
    with screen.working():
        screen.said("a line")
    screen.show("text", {"key": "ü"})
    told = capfd.readouterr()
    assert (told.err, told.out) == ("", '{\n  "key": "ü"\n}\n')


def test_a_terminal_shows_stages_with_their_time():
    code = (
        "from lilliput.cli.screen import Screen\n"
        "screen = Screen()\n"
        "with screen.working():\n"
        "    screen.progress('calibrate', 1, 3)\n"
        "    screen.progress('plan', 0, 1)\n"
    )
    environment = os.environ | {"TTY_COMPATIBLE": "1", "TERM": "xterm", "NO_COLOR": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert told.stdout == ""
    last = told.stderr.rpartition("calibrate")[2]
    assert "plan" in last and "0:00:0" in last
