"""Factorized sites of MiniLM at equal numbers of weights: half of the full rank each, or by damage.

Plain SVD, SVD whitened by the inputs alone (SVD-LLM, arXiv 2403.07378), ours with the output side,
and ours with ranks by damage, where all sites together hold as many numbers as at half rank. All
read the same calibration sentences.
"""

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.models import load
from benchmarks.record import SEEDS, Record
from benchmarks.rows import ours
from benchmarks.rows.sites_ours import SitesAlone
from benchmarks.yardstick import Yardstick
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.techniques import FactorizeSvd, FactorizeWhitened, Technique

METHODS = ("svd", "whitened inputs", "whitened", "whitened, ranks by damage")
SETTING = "half rank"


def measure(row: str, done: ours.Done) -> Iterator[Record]:
    """One profile per seed, one file per method."""
    for seed in SEEDS:
        wanted = [name for name in METHODS if (name, SETTING, seed) not in done]
        if not wanted:
            continue
        subject = load("minilm", seed)
        with tempfile.TemporaryDirectory() as scratch:
            known = ours.profiled(ours.prepared(subject, seed, Path(scratch))).profile
        yield from records(Yardstick(row, subject, seed), known=known, wanted=wanted)


def records(yardstick: Yardstick, *, known: Profile, wanted: Collection[str]) -> Iterator[Record]:
    """One per method that is wanted."""
    sites = yardstick.subject.sites
    alone, blind = SitesAlone(known, sites), SitesAlone(_without_outputs(known), sites)
    for name, technique in methods(known, sites).items():
        if name not in wanted:
            continue
        own = blind if name == "whitened inputs" else alone
        plan = Plan(model_hash=known.model_hash, steps=(technique.step_of(sites),))
        yield yardstick.record(
            name, SETTING, filed=own.filed(plan), details={"numbers": own.numbers(plan)}
        )


def methods(known: Profile, sites: Sequence[str]) -> dict[str, Technique]:
    """Name -> technique; all leave the same number of weights."""
    shapes = [known.sites[name].site for name in sites]
    (rank,) = {min(site.rows, site.columns) // 2 for site in shapes}
    left = sum(rank * (site.rows + site.columns) for site in shapes)
    amount = 1 - left / sum(site.size for site in shapes)
    together = FactorizeWhitened(amount=amount, together=True)
    alike = FactorizeWhitened(rank=rank)
    return dict(zip(METHODS, (FactorizeSvd(rank=rank), alike, alike, together), strict=True))


def _without_outputs(known: Profile) -> Profile:
    """Every output counts the same, as in the paper."""
    sites = {
        name: replace(site, output=None, weights=torch.ones_like(site.weights))
        for name, site in known.sites.items()
    }
    return replace(known, sites=sites, products={})
