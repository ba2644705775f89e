"""Results as JSON lines: one file per row, one line per (peer, setting, seed)."""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
SEEDS = tuple(int(seed) for seed in os.environ.get("BENCHMARK_SEEDS", "0 1 2").split())
PACKAGES = (
    *("torch", "numpy", "onnxruntime", "openvino", "hqq", "torchao", "constriction", "zstandard"),
    "torch-pruning",
    "lilliput",
)


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        row: Name of the row.
        subject: Name of the model.
        peer: What was measured.
        setting: Which of its settings, e.g. ``int4`` or ``12%``.
        seed: Draws calibration and test inputs.
        bytes: Size of the real file.
        share: `bytes` over the fp32 bytes of what the row compresses (sites or whole model).
        errors: Named errors on the test inputs.
        details: What was chosen on the way, for the record.
        versions: Versions of the packages.
    """

    row: str
    subject: str
    peer: str
    setting: str
    seed: int
    bytes: int
    share: float
    errors: dict[str, float]
    details: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it unique within its row."""
        return self.peer, self.setting, self.seed


def versions() -> dict[str, str]:
    """Versions of what a measurement depends on, those that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read(row: str, folder: Path = RESULTS) -> list[Record]:
    """What has been measured of a row; empty when nothing has."""
    path = folder / f"{row}.jsonl"
    if not path.exists():
        return []
    return [Record(**json.loads(line)) for line in path.read_text().splitlines() if line]


def append(record: Record, folder: Path = RESULTS) -> None:
    """Add one line to the row's file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{record.row}.jsonl").open("a") as file:
        file.write(json.dumps(asdict(record), sort_keys=True) + "\n")


def rows(folder: Path = RESULTS) -> Iterator[str]:
    """Names of the rows that have results."""
    return (path.stem for path in sorted(folder.glob("*.jsonl")))
