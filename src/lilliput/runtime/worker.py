"""The measuring process: opens an artifact as a user's app would, runs it, and reports.

Started as ``python -m lilliput.runtime.worker``. Never imports torch nor any code of the user's.
"""

import os
import sys
import time
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from lilliput.errors import LilliputError
from lilliput.runtime.frames import read_message, write_message


class Program(Protocol):
    """An opened artifact."""

    def __call__(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """All outputs for one batch of inputs, both in the model's flattened order."""
        ...


def serve(commands: IO[bytes], answers: IO[bytes], program: Program) -> None:
    """Answers commands until the stream ends.

    Commands: ``run`` (arrays -> arrays), ``time`` (arrays, ``calls`` -> ``ms`` of each call) and
    ``memory`` (-> ``peak`` resident bytes of the whole life of this process).
    """
    while True:
        try:
            command, arrays = read_message(commands)
        except EOFError:
            return
        if command["do"] == "run":
            write_message(answers, {}, program(arrays))
        elif command["do"] == "time":
            write_message(answers, {"ms": _milliseconds(program, arrays, command["calls"])})
        else:
            write_message(answers, {"peak": peak_resident()})


def _milliseconds(program: Program, arrays: list[np.ndarray], calls: int) -> list[float]:
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        program(arrays)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def peak_resident() -> int:
    """Largest number of resident bytes this process ever had.

    Linux: ``VmHWM``, which starts anew with the program (``ru_maxrss`` is inherited from the
    parent). Elsewhere what the system reports.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import psutil

    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):
        return int(info.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def open_onnx(path: str, threads: int) -> Program:
    """Opens an ONNX file in the runtime's default session."""
    from lilliput.runtime.sessions import default_session

    session = default_session(path, threads)
    names = [value.name for value in session.get_inputs()]

    def program(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return list(session.run(None, dict(zip(names, arrays, strict=True))))

    return program


def claim_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Standard input and output for messages; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sys.stdin.buffer, answers


def main() -> None:
    """Reads the first message (which file, how many threads), answers, then serves."""
    commands, answers = claim_pipes()
    opening: dict[str, Any] = read_message(commands)[0]
    try:
        program = open_onnx(opening["path"], opening["threads"])
    except LilliputError as error:
        write_message(answers, {"error": error.message})
        return
    write_message(answers, {"opened": True})
    serve(commands, answers, program)


if __name__ == "__main__":
    main()
