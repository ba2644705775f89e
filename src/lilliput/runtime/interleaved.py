"""Original and artifact measured in turns, so that what else the machine does hits both."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from lilliput.runtime.processes import Worker

Opener = Callable[[], Worker]
_WARM_UP = 3
_FEWEST_ROUNDS = 11  # five are needed for any bound; more make it tight


@dataclass(frozen=True)
class Turns:
    """What was measured of both files, round by round.

    Attributes:
        original: (rounds, calls) milliseconds, or (rounds,) bytes.
        artifact: The same.
    """

    original: np.ndarray
    artifact: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """Artifact over original of each round's median, (rounds,)."""
        rounds = len(self.original)
        before = np.median(self.original.reshape(rounds, -1), axis=1)
        after = np.median(self.artifact.reshape(rounds, -1), axis=1)
        return np.asarray(after / before)


def latency_turns(
    workers: tuple[Worker, Worker], arrays: Sequence[np.ndarray], *, seconds: float = 10
) -> Turns:
    """Milliseconds of single calls, in rounds A B, B A, A B, ...

    Args:
        workers: Processes that have the original and the artifact open.
        arrays: The batch.
        seconds: About how long to measure; at least 11 rounds are run.
    """
    start = time.perf_counter()
    for worker in workers:
        worker.milliseconds(arrays, _WARM_UP)
    each = max((time.perf_counter() - start) / (2 * _WARM_UP), 1e-5)
    calls = max(1, min(20, int(seconds / (2 * _FEWEST_ROUNDS * each))))
    rounds = max(_FEWEST_ROUNDS, min(60, int(seconds / (2 * calls * each))))
    times: tuple[list[list[float]], list[list[float]]] = ([], [])
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            times[which].append(workers[which].milliseconds(arrays, calls))
    return Turns(np.array(times[0]), np.array(times[1]))


def memory_turns(
    openers: tuple[Opener, Opener],
    arrays: Sequence[np.ndarray],
    empty: tuple[Opener, Sequence[np.ndarray]],
    *,
    rounds: int = 5,
) -> Turns:
    """Peak resident bytes above the runtime's own: opening the file and a few calls.

    Each number is the peak of a fresh process that opened the file and ran it, less the peak of a
    fresh process that opened and ran next to nothing (the runtime's own).

    Args:
        openers: Start a process with the original and with the artifact.
        arrays: The batch that is run.
        empty: Starts a process with next to nothing, and what that is run on.
        rounds: How often; five are the fewest that allow a 95 % bound.
    """
    own = min(peak_resident_of(*empty) for _ in range(3))
    peaks = [[peak_resident_of(opener, arrays) for opener in openers] for _ in range(rounds)]
    above = np.maximum(np.array(peaks, np.int64) - own, 1)  # (rounds, 2)
    return Turns(above[:, 0], above[:, 1])


def peak_resident_of(opener: Opener, arrays: Sequence[np.ndarray]) -> int:
    """Peak of a fresh process that opened its file and ran it a few times, in bytes."""
    with opener() as worker:
        worker.milliseconds(arrays, _WARM_UP)
        return worker.peak_bytes()


def write_one_addition(path: Path) -> list[np.ndarray]:
    """Writes the smallest graph, y = x + x on one number, and returns an input for it."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "one_addition",
        [helper.make_tensor_value_info("x", kind, [1])],
        [helper.make_tensor_value_info("y", kind, [1])],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return [np.ones(1, np.float32)]


def percentiles(milliseconds: np.ndarray) -> tuple[float, float]:
    """Median and 95th percentile of single calls."""
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return (float(p50), float(p95)) if math.isfinite(p50) else (math.nan, math.nan)
