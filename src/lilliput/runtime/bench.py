"""Files timed in turns with the original, which stays open."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from lilliput.environment import RuntimeName
from lilliput.runtime.interleaved import latency_turns, peak_resident_of, write_one_addition
from lilliput.runtime.processes import Worker

SECONDS = 1.0  # of each latency measurement; at least 11 rounds are run


@dataclass
class Bench:
    """Measures runnable files of one model. Use it in a ``with`` statement.

    Attributes:
        original: The original's ONNX export.
        arrays: The batch that is run.
        scratch: An existing folder.
        threads: Threads inside one operator; 0 leaves the choice to the runtime.
        runtime: Which runtime opens the files.
    """

    original: Path
    arrays: Sequence[np.ndarray]
    scratch: Path
    threads: int = 0
    runtime: RuntimeName = "onnxruntime"
    _stack: ExitStack = field(default_factory=ExitStack)
    _times: list[float] = field(default_factory=list)

    def __enter__(self) -> Self:
        empty = self.scratch / "one_addition.onnx"
        one = write_one_addition(empty)
        self._own = min(peak_resident_of(partial(self._open, empty), one) for _ in range(3))
        self._worker = self._stack.enter_context(self._open(self.original))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def original_ms(self) -> float:
        """Median call of the original so far."""
        if not self._times:
            self.measure(self.original)
        return float(np.median(self._times))

    def measure(self, path: Path, *, seconds: float = SECONDS) -> tuple[float, float]:
        """Bytes resident above the runtime's own, and the latency as a share of the original's."""
        with self._open(path) as worker:
            turns = latency_turns((self._worker, worker), self.arrays, seconds=seconds)
            memory = max(1, worker.peak_bytes() - self._own)
        self._times += list(np.median(turns.original, axis=1))
        return float(memory), float(np.median(turns.ratios))

    def _open(self, path: Path) -> Worker:
        return Worker(path, threads=self.threads, runtime=self.runtime)
