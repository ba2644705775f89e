"""Ctrl-C and SIGTERM end a command, also where they arrive inside a destructor or a callback.

Python drops an exception raised in a destructor, and some libraries drop whatever their callbacks
raise. An interrupt that was dropped is raised again: at once when Python says that it dropped it,
and otherwise at the next sign of progress.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN_SECONDS = 0.02  # until the code that dropped it has been left
_arrived: list[signal.Signals] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: everything ends as after Ctrl-C."""


@contextmanager
def heeded() -> Iterator[None]:
    """While the block runs no interrupt is lost. For the main thread.

    What the shell told us to ignore (Ctrl-C, for a job in its background) stays ignored.
    """
    _arrived.clear()
    wanted = [one for one in _SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, _raise) for one in wanted}
    told, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        yield
    finally:
        sys.unraisablehook = told
        for one, handler in before.items():
            signal.signal(one, handler)
        _arrived.clear()


def check() -> None:
    """Raises the interrupt that arrived and was dropped.

    Raises:
        KeyboardInterrupt: One arrived earlier.
    """
    if _arrived and threading.current_thread() is threading.main_thread():
        _raise(_arrived[0], None)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    _arrived.append(signal.Signals(number))
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    if _arrived and issubclass(dropped.exc_type, KeyboardInterrupt):
        threading.Timer(_AGAIN_SECONDS, signal.raise_signal, [_arrived[0]]).start()
    else:
        sys.__unraisablehook__(dropped)
