"""The parent's side of the measuring process."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import lilliput
from lilliput.errors import ContainerError, InternalError, LilliputError
from lilliput.runtime.frames import read_message, write_message

_KEPT = ("PATH", "HOME", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH", "LANG")
_TAIL = 300  # characters of standard error in a message


class Worker:
    """A fresh process that has one artifact open. Use it in a ``with`` statement.

    The process starts with a clean environment and never imports the user's code. It is killed
    when it does not answer in time.

    Args:
        path: ONNX file.
        threads: Threads inside one operator; 0 leaves the choice to the runtime.
        timeout: Seconds that one answer may take.

    Raises:
        ContainerError: The runtime cannot open the file.
        InternalError: The process died or did not answer; says what it printed last.
    """

    def __init__(self, path: Path, *, threads: int = 0, timeout: float = 600) -> None:
        opening = {"path": str(path.resolve()), "threads": threads}
        self._start("lilliput.runtime.worker", opening, timeout)

    def _start(
        self,
        module: str,
        opening: dict[str, Any],
        timeout: float,
        arrays: Sequence[np.ndarray] = (),
    ) -> None:
        self.timeout = timeout
        self._expired = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=clean_environment(),
        )
        try:
            answer, _ = self._ask(opening, arrays)
            if "error" in answer:
                raise ContainerError(answer["error"])
        except LilliputError:
            self.close()
            raise

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All outputs of one batch, in the order in which the model's outputs flatten."""
        return self._ask({"do": "run"}, arrays)[1]

    def stream(self, batches: Iterable[Sequence[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """Outputs batch by batch; only one batch is held at a time."""
        for arrays in batches:
            yield self.run(arrays)

    def milliseconds(self, arrays: Sequence[np.ndarray], calls: int) -> list[float]:
        """Latency of each of `calls` consecutive calls on the same batch."""
        return list(self._ask({"do": "time", "calls": calls}, arrays)[0]["ms"])

    def peak_bytes(self) -> int:
        """Largest number of resident bytes of the process so far."""
        return int(self._ask({"do": "memory"})[0]["peak"])

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self, command: dict[str, Any], arrays: Sequence[np.ndarray] = ()
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        commands, answers = self._process.stdin, self._process.stdout
        if commands is None or answers is None:
            raise InternalError("the measuring process has no pipes")
        timer = threading.Timer(self.timeout, self._expire)
        timer.daemon = True
        timer.start()
        try:
            write_message(commands, command, arrays)
            return read_message(answers)
        except (EOFError, BrokenPipeError) as error:
            raise InternalError(self._epitaph()) from error
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _epitaph(self) -> str:
        """Why the process ended, in one line."""
        status = self._process.wait()
        self._errors.seek(0)
        tail = " ".join(self._errors.read().decode(errors="replace").split())[-_TAIL:]
        if self._expired:
            reason = f"did not answer within {self.timeout:g} s"
        elif status == -signal.SIGKILL:
            reason = "was killed; most likely the machine ran out of memory"
        else:
            reason = f"ended with status {status}"
        return f"the measuring process {reason}" + (f": {tail}" if tail else "")


def clean_environment() -> dict[str, str]:
    """Only what a process needs to start, and where this package is."""
    package = Path(next(iter(lilliput.__path__))).parent
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {**kept, "PYTHONPATH": str(package)}
