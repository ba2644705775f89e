"""How long each operation of an ONNX file takes, by the runtime's own profiler, in a fresh process.

Started as ``python -m lilliput.runtime.op_times``; never imports torch.
"""

import io
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lilliput.errors import InternalError, LilliputError
from lilliput.runtime.frames import read_message, write_message

CALLS = 20
_KERNEL = "_kernel_time"
# Names of fused nodes: "fused NODE", "NODE/MatMulAddFusion/", "OUTPUT_nchwc" in blocked layout.
_DECORATED = re.compile(r"^(?:fused )?([^/]*?)(?:_nchwc)?(?:_token_\d+)?(?:/.*)?$")
_WARM_UP = 3
# What the runtime computes together with the operation before it, or turns a weight with.
_THROUGH = frozenset(
    {"Transpose", "Cast", "Mul", "Relu", "Clip", "LeakyRelu", "HardSwish", "Sigmoid", "Add"}
)


@dataclass(frozen=True)
class OpTime:
    """One operation as the runtime executes it.

    Attributes:
        name: Its name in the runtime's graph, close to that in the file.
        kind: ``MatMul``, ``Conv``, ...
        milliseconds: Median over calls.
    """

    name: str
    kind: str
    milliseconds: float


def operation_times(
    path: Path, arrays: Sequence[np.ndarray], *, threads: int = 0, calls: int = CALLS
) -> list[OpTime]:
    """Times every operation of a file in the runtime's default session.

    Args:
        path: ONNX file.
        arrays: The batch, in the order of the graph's inputs.
        threads: Threads inside one operator; 0 leaves the choice to the runtime.
        calls: How often it is run.

    Raises:
        InternalError: The process failed.
    """
    from lilliput.runtime.processes import clean_environment

    asked = io.BytesIO()
    write_message(asked, {"path": str(path.resolve()), "threads": threads, "calls": calls}, arrays)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lilliput.runtime.op_times"],
        input=asked.getvalue(),
        capture_output=True,
        env=clean_environment(),
        check=False,
    )
    if done.returncode:
        tail = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        raise InternalError(f"the profiling process ended with status {done.returncode}: {tail}")
    answer, _ = read_message(io.BytesIO(done.stdout))
    if "error" in answer:
        raise InternalError(answer["error"])
    return [OpTime(*entry) for entry in answer["times"]]


def by_site(
    path: Path, times: Iterable[OpTime], *, readers: Mapping[str, Iterable[str]]
) -> tuple[dict[str, float], list[OpTime]]:
    """Milliseconds of each site, and the operations that belong to none.

    Args:
        path: The file that was timed.
        times: From `operation_times`.
        readers: Site -> names of the nodes that read its weight.
    """
    owners = _owners(path, readers)
    found: dict[str, float] = defaultdict(float)
    others = []
    for time in times:
        bare = _DECORATED.match(time.name)
        site = owners.get(bare[1]) if bare else None
        if site is None or time.kind in ("Add", "Mul", "Transpose", "Cast"):
            others.append(time)
        else:
            found[site] += time.milliseconds
    return dict(found), others


def _owners(path: Path, readers: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Names of nodes and values -> the site: the reader itself and what the runtime fuses to it."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    named = {node.name: node for node in nodes}
    users: dict[str, list[Any]] = defaultdict(list)
    for node in nodes:
        for value in node.input:
            users[value].append(node)
    owners: dict[str, str] = {}
    reading = {name for names in readers.values() for name in names}
    for site, names in readers.items():
        for name in names:
            node = named.get(name)
            while node is not None:
                for key in (node.name, *node.output):
                    owners.setdefault(key, site)
                after = [user for value in node.output for user in users[value]]
                turned = node.op_type in ("Transpose", "Cast")
                alone = len(after) == 1 and after[0].name not in reading
                node = after[0] if alone and (turned or after[0].op_type in _THROUGH) else None
    return owners


def main() -> None:
    """Reads one message, profiles, answers."""
    command, arrays = read_message(sys.stdin.buffer)
    try:
        with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
            answer: dict[str, Any] = {"times": _profiled(command, arrays, Path(scratch))}
    except LilliputError as error:
        answer = {"error": error.message}
    write_message(sys.stdout.buffer, answer)


def _profiled(
    command: Mapping[str, Any], arrays: Sequence[np.ndarray], scratch: Path
) -> list[tuple[str, str, float]]:
    from lilliput.runtime.sessions import default_session

    session = default_session(command["path"], command["threads"], trace=scratch / "trace")
    fed = dict(zip([value.name for value in session.get_inputs()], arrays, strict=True))
    for _ in range(_WARM_UP + command["calls"]):
        session.run(None, fed)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            key = event["name"].removesuffix(_KERNEL), event["args"]["op_name"]
            durations[key].append(event["dur"] / 1000)
    return [
        (name, kind, float(np.median(each[_WARM_UP:] or each)))
        for (name, kind), each in durations.items()
    ]


if __name__ == "__main__":
    main()
