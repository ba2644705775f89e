import contextlib
import errno
import os
import signal
import subprocess
import sys
import time

import pytest

import lilliput
from lilliput.cli import commands, door, line
from lilliput.cli.screen import Screen
from lilliput.errors import InputError, InternalError, TaskError

HEAVY = ["torch", "onnx", "onnxruntime", "onnx_ir", "transformers", "scipy", "numpy", "pydantic"]

NAMES = [command.__name__.replace("_", "-") for command in commands.COMMANDS]


def failing(error, monkeypatch):
    def fail(words):
        raise error

    monkeypatch.setattr(door, "_run", fail)


def test_help_starts_without_heavy_libraries():
    code = (
        "import sys; from lilliput.cli import main; status = main(sys.argv[1:]);"
        f"print([n for n in {HEAVY} if n in sys.modules]); sys.exit(status)"
    )
    for words in (["--help"], ["compress", "--help"], ["--version"], ["nonsense"]):
        told = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert told.stdout.splitlines()[-1] == "[]", words


def test_the_module_is_the_program():
    told = subprocess.run(
        [sys.executable, "-m", "lilliput", "--version"], capture_output=True, text=True
    )
    assert (told.returncode, told.stdout.strip()) == (0, lilliput.__version__)


def test_help_names_every_command_and_says_what_it_does(call):
    said = call("--help")
    assert said.status == 0
    for name, command in zip(NAMES, commands.COMMANDS, strict=True):
        assert name in said.out
        one = call(name, "--help")
        assert one.status == 0 and (command.__doc__ or "?").splitlines()[0][:40] in one.out
    assert call().out == said.out


@pytest.mark.parametrize("command", NAMES)
def test_every_option_has_one_line_of_help(call, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    rows = [row for row in call(command, "--help").out.splitlines() if row.startswith("│")]
    assert rows
    for row in rows:
        words = row.strip("│ *").split("  ")
        assert len([word for word in words if word.strip()]) == 2, row


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["compres", "x"], "Unknown command", "lilliput --help"),
        (["compress", "x"], "--out requires an argument", "lilliput compress --help"),
        (["compress", "x", "--out", "o", "--storag", "9%"], "Unknown option", "compress --help"),
        (["compress", "x", "--out", "o", "--seed", "many"], "seed", "compress --help"),
        (["compress", "x", "--out", "o", "--arithmetic", "int3"], "int8", "compress --help"),
        (["unpack", "x"], "OUT", "lilliput unpack --help"),
    ],
)
def test_words_that_are_no_command(call, words, message, hint):
    said = call(*words)
    assert (said.status, said.out) == (2, "")
    error, second = said.err.splitlines()
    assert error.startswith("error: ") and message in error
    assert second.startswith("hint: ") and hint in second


def test_errors_of_ours_are_one_line_and_a_hint(call, monkeypatch):
    failing(TaskError("two\nlines \x1b[31m", "do\nthis"), monkeypatch)
    assert call("doctor").err == "error: two lines  [31m\nhint: do this\n"
    failing(InputError("no hint"), monkeypatch)
    assert call("doctor").err == "error: no hint\n"
    failing(InternalError("a promise"), monkeypatch)
    assert call("doctor").status == 70


def test_json_errors_are_documents(call, monkeypatch):
    failing(TaskError("wrong", "do this"), monkeypatch)
    said = call("doctor", "--json")
    assert said.document == {"error": "wrong", "hint": "do this", "exit_status": 2}
    assert (said.status, said.err) == (2, "")


def test_what_nobody_foresaw_is_our_bug(call, monkeypatch):
    failing(ZeroDivisionError("by\nzero"), monkeypatch)
    said = call("doctor")
    assert said.status == 70
    assert said.err.splitlines() == [
        "error: a bug in Lilliput: ZeroDivisionError: by zero",
        "hint: set LILLIPUT_DEBUG=1 to see the traceback, and please report it",
    ]
    monkeypatch.setenv("LILLIPUT_DEBUG", "1")
    assert "Traceback (most recent call last)" in call("doctor").err


def test_a_full_memory_and_a_full_disk_are_no_bugs(call, monkeypatch):
    failing(MemoryError(), monkeypatch)
    assert call("doctor").err.startswith("error: out of memory\nhint: ")
    failing(OSError(errno.ENOSPC, "No space left on device"), monkeypatch)
    said = call("doctor")
    assert said.status == 2 and said.err.startswith("error: the disk is full")
    failing(OSError(errno.EIO, "Input/output error"), monkeypatch)
    assert call("doctor").status == 70


def test_interrupts_and_broken_pipes(call, monkeypatch):
    failing(KeyboardInterrupt(), monkeypatch)
    said = call("doctor")
    assert (said.status, said.err) == (130, "error: interrupted, nothing was written\n")
    assert call("doctor", "--json").document["exit_status"] == 130
    failing(BrokenPipeError(), monkeypatch)
    said = call("doctor")
    assert (said.status, said.err) == (141, "")


def test_a_request_to_end_is_an_interrupt(call, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(door, "_run", lambda words: os.kill(os.getpid(), signal.SIGTERM))
    said = call("doctor")
    assert (said.status, said.err) == (143, "error: interrupted, nothing was written\n")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def heeds_interrupts():
    """As in a shell's foreground; a job in its background is told to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def in_a_destructor(words):
    """Python drops what destructors raise."""
    Interrupted()
    time.sleep(20)


def in_a_callback(words):
    """A library drops what a callback raises, and shows its progress later."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGINT)
    Screen().progress("profile", 0, 1)


@pytest.mark.parametrize("work", [in_a_destructor, in_a_callback])
@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_that_was_dropped_arrives_again(call, monkeypatch, work):
    monkeypatch.setattr(door, "_run", work)
    said = call("doctor")
    assert (said.status, said.err) == (130, "error: interrupted, nothing was written\n")
    monkeypatch.setattr(door, "_run", lambda words: Screen().said("still here") or 0)
    assert call("doctor").status == 0


def test_what_the_shell_ignores_stays_ignored(call, monkeypatch):
    monkeypatch.setattr(door, "_run", lambda words: signal.raise_signal(signal.SIGINT) or 0)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert call("doctor").status == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("word", ["doctor", "--help"])
def test_nobody_reads_our_output(word):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "lilliput", word], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")


def test_the_command_line_is_quoted(call):
    call("inspect", "my file's.onnx")
    assert line.command_line() == """lilliput inspect 'my file'"'"'s.onnx'"""
