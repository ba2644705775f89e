"""What the user sees: results on standard output, everything else on standard error."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lilliput.cli import interrupts

REFRESH = 4  # times a second: drawing must not disturb what is being measured
WIDE = 500  # columns where nobody looks: a line of a file or a pipe is never broken


class Output(Console):
    """A console that leaves a reader who has gone to the door."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled; by default the program would end with status 1."""
        raise BrokenPipeError


class Screen:
    """One command's output.

    With `as_json` standard output carries one JSON document and nothing else: whatever the user's
    code or a library prints is sent to standard error. Bars appear only on a terminal.

    Args:
        as_json: Print one JSON document instead of text.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._messages = Output(stderr=True, highlight=False, soft_wrap=True)
        self._bars = _Bars(self._messages)

    @contextmanager
    def working(self) -> Iterator["Screen"]:
        """Around the work: bars end with it, and in JSON mode standard output is kept clean."""
        with _stdout_to_stderr() if self.as_json else nullcontext():
            try:
                yield self
            finally:
                self._bars.close()

    def said(self, line: str) -> None:
        """A line worth telling while the work goes on."""
        interrupts.check()
        if self._messages.is_terminal or not self.as_json:
            self._messages.print(line, markup=False)

    def progress(self, stage: str, done: int, total: int) -> None:
        """How far a stage is."""
        interrupts.check()
        if self._messages.is_terminal:
            self._bars.update(stage, done, total)

    def show(self, result: RenderableType, document: Mapping[str, Any]) -> None:
        """The result: as a JSON document, or as text."""
        if self.as_json:
            print_json(document)
        else:
            console = Output(highlight=False)
            console.width = console.width if console.is_terminal else WIDE
            console.print(result, markup=False)


class _Bars:
    """A bar per stage, with the time it took and the time it will take."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="·"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=REFRESH,
        )
        self._stage = ""
        self._row: TaskID | None = None

    def update(self, stage: str, done: int, total: int) -> None:
        if self._row is None or stage != self._stage:
            self._finish()
            self._stage = stage
            self._row = self._progress.add_task(stage, total=None)
            self._progress.start()
        if total > 1:
            self._progress.update(self._row, completed=min(done, total), total=total)

    def close(self) -> None:
        self._finish()
        if self._progress.live.is_started:
            self._progress.stop()

    def _finish(self) -> None:
        if self._row is not None:
            self._progress.update(self._row, total=1, completed=1)
            self._row = None


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Both Python's standard output and the file descriptor that other code writes to."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
