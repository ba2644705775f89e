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
from lilliput.environment import RUNTIME_TITLES, RuntimeName, require_runtime
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
        runtime: Which runtime opens the file.

    Attributes:
        precision: The type in which the runtime computes the float32 parts of the file.

    Raises:
        ContainerError: The runtime cannot open or run the file.
        MissingExtraError: The runtime is not installed.
        InternalError: The process died or did not answer; says what it printed last.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        timeout: float = 600,
        runtime: RuntimeName = "onnxruntime",
    ) -> None:
        require_runtime(runtime)
        self._title = RUNTIME_TITLES[runtime]
        opening = {"path": str(path.resolve()), "threads": threads, "runtime": runtime}
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
            self.precision: str = self._ask(opening, arrays)[0]["precision"]
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
            answer, outputs = read_message(answers)
        except (EOFError, BrokenPipeError) as error:
            raise self._death() from error
        finally:
            timer.cancel()
        if "error" in answer:
            raise ContainerError(answer["error"])
        return answer, outputs

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _death(self) -> LilliputError:
        """A crash is the runtime's answer to the file; whatever else ends a process is not."""
        status = self._process.wait()
        if status < 0 and status != -signal.SIGKILL and not self._expired:
            name = signal.Signals(-status).name
            return ContainerError(f"{self._title} crashes on the file: {name}")
        return InternalError(self._epitaph(status))

    def _epitaph(self, status: int) -> str:
        """Why the process ended, in one line."""
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
