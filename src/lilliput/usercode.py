"""The one door to code that users bring: what it raises arrives as a TaskError with its line."""

import traceback
from pathlib import Path
from types import TracebackType

from lilliput.errors import LilliputError, TaskError

_OURS = str(Path(__file__).parent)


class users_code:  # noqa: N801 - written as `with users_code("collate"):`
    """Run code of the user's; name what it was and the user's own line when it fails.

    A class, and no generator: it stands around every example that is read.

    Args:
        what: Start of the message, e.g. ``"task.py"`` or ``"examples[3]"``.

    Raises:
        TaskError: The code raised anything but one of our own errors.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing is done before."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ours and interruptions pass; the rest becomes a `TaskError`."""
        if isinstance(error, LilliputError) or not isinstance(error, Exception | SystemExit):
            return
        reason = " ".join(str(error).split())[:400]
        shown = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise TaskError(f"{self._what} failed: {shown}", _place(error)) from error


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
