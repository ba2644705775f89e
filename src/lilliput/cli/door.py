"""The door: every command goes out through here, with one line and an exit status."""

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from cyclopts import CycloptsError

from lilliput.cli.interrupts import Terminated, heeded
from lilliput.cli.line import remember
from lilliput.cli.screen import print_json
from lilliput.errors import InputError, LilliputError, OutputError

INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141
OUR_ERROR = 70
DEBUG = "LILLIPUT_DEBUG"
_FULL = {errno.ENOSPC, errno.EDQUOT}


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit status.

    Args:
        tokens: What follows the program's name; by default those of this process.
    """
    words = list(sys.argv[1:] if tokens is None else tokens)
    remember(words)
    with warnings.catch_warnings():
        if not _debugging():
            warnings.simplefilter("ignore")
        return _flushed(_guarded(words))


def _guarded(words: list[str]) -> int:
    try:
        with heeded():
            return _run(words)
    except LilliputError as error:
        return _complain(words, error, error.exit_status)
    except KeyboardInterrupt as error:
        status = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        return _complain(words, LilliputError("interrupted, nothing was written"), status)
    except BrokenPipeError:
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the door: what nobody foresaw is named as our bug
        return _unforeseen(words, error)


def _run(words: list[str]) -> int:
    from lilliput.cli.commands import app

    try:
        status = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        raise InputError(" ".join(str(error).split()), _help_hint(words)) from error
    return int(status or 0)


def _unforeseen(words: list[str], error: Exception) -> int:
    if isinstance(error, OSError) and error.errno in _FULL:
        full = OutputError(f"the disk is full: {_one_line(error)}", "TMPDIR moves scratch files")
        return _complain(words, full, full.exit_status)
    if isinstance(error, MemoryError):
        memory = LilliputError("out of memory", "fewer or smaller examples, or a larger machine")
        return _complain(words, memory, OUR_ERROR)
    bug = LilliputError(
        f"a bug in Lilliput: {type(error).__name__}: {_one_line(error)}",
        f"set {DEBUG}=1 to see the traceback, and please report it",
    )
    return _complain(words, bug, OUR_ERROR)


def _complain(words: list[str], error: LilliputError, status: int) -> int:
    if _debugging():
        traceback.print_exc()
    if "--json" in words:
        print_json({"error": error.message, "hint": error.hint, "exit_status": status})
        return status
    print(f"error: {_shown(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {_shown(error.hint)}", file=sys.stderr)
    return status


def _flushed(status: int) -> int:
    """Whoever read our output may have gone: that is no error of ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _help_hint(words: list[str]) -> str:
    from lilliput.cli.commands import NAMES

    return f"lilliput {words[0]} --help" if words and words[0] in NAMES else "lilliput --help"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]


def _shown(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _debugging() -> bool:
    return bool(os.environ.get(DEBUG))
