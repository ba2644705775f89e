"""The command line as it was typed."""

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

_LINE: ContextVar[tuple[str, ...]] = ContextVar("line", default=())


def remember(words: Sequence[str]) -> None:
    """Keeps what follows the program's name."""
    _LINE.set(tuple(words))


def command_line() -> str:
    """What repeats this run."""
    return shlex.join(["lilliput", *_LINE.get()])
