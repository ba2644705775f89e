"""Ours on the sites alone, next to the peers' files of `benchmarks.rows.sites`."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from benchmarks.models import load
from benchmarks.record import SEEDS, Record, read
from benchmarks.rows.ours import Done, prepared, profiled
from benchmarks.rows.sites import WITH_DATA, WITHOUT_DATA
from benchmarks.yardstick import Yardstick
from lilliput.coding import pack, unpack
from lilliput.model.encodings import LowRank
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.runtime.weights_file import read_weights, write_weights
from lilliput.stages.apply import apply
from lilliput.stages.plan import Targets, Trial, plan


def measure(row: str, subject_name: str, peers: str, done: Done) -> Iterator[Record]:
    """The sites alone, in files as large as the peers' (their row is `peers`).

    Of the peers without data the one with the least error counts, of those with data each.
    """
    for seed in SEEDS:
        targets = targets_of(read(peers), seed)
        wanted = {
            (f"lilliput as large as {peer}", setting): size
            for (peer, setting), size in targets.items()
            if (f"lilliput as large as {peer}", setting, seed) not in done
        }
        if not wanted:
            continue
        subject = load(subject_name, seed)
        yardstick = Yardstick(row, subject, seed)
        with tempfile.TemporaryDirectory() as scratch:
            run = prepared(subject, seed, Path(scratch))
            alone = SitesAlone(profiled(run).profile, subject.sites)
        for (peer, setting), size in wanted.items():
            chosen = plan(alone.profile, Targets(size, None, None), evaluate=alone, seed=seed)
            predicted = {"predicted": chosen.predicted_damage}
            yield yardstick.record(peer, setting, filed=alone.filed(chosen), details=predicted)


def targets_of(records: Sequence[Record], seed: int) -> dict[tuple[str, str], int]:
    """(peer, setting) -> bytes of the files that ours must not exceed."""
    own = [record for record in records if record.seed == seed]
    found = {(r.peer, r.setting): r.bytes for r in own if r.peer in WITH_DATA}
    for setting in {record.setting for record in own}:
        blind = [r for r in own if r.setting == setting and r.peer in WITHOUT_DATA]
        if blind:
            best = min(blind, key=lambda record: record.errors["relative"])
            found[best.peer, setting] = best.bytes
    return dict(sorted(found.items()))


class SitesAlone:
    """Files that hold some sites and nothing else: what the planner is shown, and what is counted.

    Args:
        profile: Of the whole model.
        names: The sites.
    """

    def __init__(self, profile: Profile, names: Sequence[str]) -> None:
        some = {name: profile.sites[name] for name in names}
        values = {name: profile.parameters[name] for name in names}
        self.profile = replace(profile, sites=some, parameters=values)

    def filed(self, chosen: Plan) -> tuple[int, dict[str, Tensor]]:
        """Bytes of the packed file, and what is read back from it."""
        encodings = apply(chosen, self.profile)
        with tempfile.TemporaryDirectory() as folder:
            plain, packed = Path(folder) / "weights.onnx", Path(folder) / "model.lilliput"
            write_weights(self.profile.parameters, encodings, plain)
            pack(plain, packed)
            model, *_ = unpack(packed, Path(folder) / "unpacked")
            return packed.stat().st_size, read_weights(model)

    def numbers(self, chosen: Plan) -> int:
        """Weights that the sites hold, factors counted as they are."""
        made = apply(chosen, self.profile)
        products = {name: e.factors for name, e in made.items() if isinstance(e, LowRank)}
        return sum(
            sum(factor.decode().numel() for factor in products[name])
            if name in products
            else value.numel()
            for name, value in self.profile.parameters.items()
        )

    def sizes(self, chosen: Plan) -> Trial:
        """Bytes of the packed file."""
        return Trial(storage=self.filed(chosen)[0], installed=0)

    def expected_drop(self, chosen: Plan) -> float:
        """Never asked: the limit is storage."""
        raise NotImplementedError
