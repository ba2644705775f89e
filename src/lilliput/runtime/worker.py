"""The measuring process: opens an artifact as a user's app would, runs it, and reports.

Started as ``python -m lilliput.runtime.worker``. Never imports torch nor any code of the user's.
"""

import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from lilliput.errors import LilliputError
from lilliput.runtime.frames import read_message, write_message
from lilliput.runtime.programs import Program, open_onnx


def serve(commands: IO[bytes], answers: IO[bytes], program: Program) -> None:
    """Answers commands until the stream ends.

    Commands: ``run`` (arrays -> arrays), ``time`` (arrays, ``calls`` -> ``ms`` of each call) and
    ``memory`` (-> ``peak`` resident bytes of the whole life of this process). What the runtime
    cannot run is answered with ``error``.
    """
    while True:
        try:
            command, arrays = read_message(commands)
        except EOFError:
            return
        try:
            write_message(answers, *_answer(command, arrays, program))
        except LilliputError as error:
            write_message(answers, {"error": error.message})


def _answer(
    command: dict[str, Any], arrays: list[np.ndarray], program: Program
) -> tuple[dict[str, Any], list[np.ndarray]]:
    if command["do"] == "run":
        return {}, program(arrays)
    if command["do"] == "time":
        return {"ms": _milliseconds(program, arrays, command["calls"])}, []
    return {"peak": peak_resident()}, []


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


def claim_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Standard input and output for messages; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sys.stdin.buffer, answers


def main() -> None:
    """Reads the first message (which file, runtime, threads), answers, then serves."""
    commands, answers = claim_pipes()
    opening: dict[str, Any] = read_message(commands)[0]
    try:
        opened = open_onnx(opening["path"], runtime=opening["runtime"], threads=opening["threads"])
    except LilliputError as error:
        write_message(answers, {"error": error.message})
        return
    write_message(answers, {"precision": opened.precision})
    serve(commands, answers, opened.program)


if __name__ == "__main__":
    main()
