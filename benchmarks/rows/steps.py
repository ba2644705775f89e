"""The standard's coder with our steps: what is left of our lead when it is handed our allocation.

NNCodec rounds without error feedback; the steps per site, row and column are ours, all of them
scaled alike until the file has the size asked for.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.models import load
from benchmarks.peers import standard
from benchmarks.peers.parts import fp32_bytes
from benchmarks.record import SEEDS, Record
from benchmarks.rows import ours
from benchmarks.rows.whole import SHARES
from benchmarks.yardstick import Yardstick
from lilliput.model.encodings import Encoding, Grid
from lilliput.stages.plan import Targets, plan

PEER = "nncodec_our_steps"
SETTINGS: standard.Settings = {"vector_qp": -44}


def steps_of(encodings: Mapping[str, Encoding]) -> standard.Steps:
    """Row steps and column factors of every weight on a grid.

    Raises:
        ValueError: A weight is stored (in, out), whose rows the standard's interface cannot name.
    """
    grids = {name: value for name, value in encodings.items() if isinstance(value, Grid)}
    for name, grid in grids.items():
        if grid.transposed:
            raise ValueError(f"{name} is stored transposed")
    return {name: (grid.row_steps, grid.column_steps) for name, grid in grids.items()}


def measure(row: str, subject_name: str, done: ours.Done) -> Iterator[Record]:
    """One profile per seed, one file per share."""
    for seed in SEEDS:
        wanted = [share for share in SHARES if (PEER, f"{share:.0%}", seed) not in done]
        if not wanted:
            continue
        subject = load(subject_name, seed)
        original = fp32_bytes(subject.model)
        yardstick = Yardstick(row, subject, seed, original)
        with tempfile.TemporaryDirectory() as scratch:
            trials = ours.profiled(ours.prepared(subject, seed, Path(scratch)))
            for share in wanted:
                target = int(share * original)
                chosen = plan(trials.profile, Targets(target, None, None), evaluate=trials)
                steps = steps_of(trials.encodings(chosen))
                coded = standard.whole_model_with_steps(subject, [target], steps, SETTINGS)
                made = next(coded)
                filed = made.bytes, made.weights
                yield yardstick.record(PEER, f"{share:.0%}", filed=filed, details=made.settings)
