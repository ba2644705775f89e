"""The one door to code that users bring: what it raises arrives as a TaskError with its line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lilliput.errors import LilliputError, TaskError

_OURS = str(Path(__file__).parent)


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Run code of the user's; name what it was and the user's own line when it fails.

    Args:
        what: Start of the message, e.g. ``"task.py"`` or ``"examples[3]"``.

    Raises:
        TaskError: The code raised anything but one of our own errors.
    """
    try:
        yield
    except LilliputError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:400]
        shown = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise TaskError(f"{what} failed: {shown}", _place(error)) from error


def _place(error: BaseException) -> str:
    """``file.py, line 12`` of the innermost frame that is neither ours nor a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith((_OURS, "<")) and "site-packages" not in frame.filename
    ]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""
