"""Prices: known costs are found again, the cache is used once it is whole, sites find their ops."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from three_sites import made_profile

from lilliput.model.sites import Site
from lilliput.stages import price as price_module
from lilliput.stages.mixing import Mixture, Targets
from lilliput.stages.option_table import Candidate, OptionTable
from lilliput.stages.price import Subject, price
from lilliput.stages.prices import Original, fitted, kernel_of, site_kind
from lilliput.techniques import Option, QuantizeFloat16, QuantizeRound

SITES = {
    f"site{n}": Site(f"site{n}", ("linear", "conv")[n % 2], (64, 32), 64, 32) for n in range(12)
}
TRUE = {("quantize_round", "linear"): (0.3, 0.02), ("quantize_round", "conv"): (1.4, 0.01)}
TRUE |= {("quantize_float16", kind): (1.0, 0.0) for kind in ("linear", "conv")}
BYTES = {"quantize_round": 1.5, "quantize_float16": 4.0}


def option(name):
    size = 64 * 32
    if name == "quantize_round":
        return Candidate((QuantizeRound(),), Option({}, 1.0, size, size), 0)
    return Candidate((QuantizeFloat16(),), Option({}, 0.0, 2 * size, 4 * size), 0)


def test_known_costs_are_found_again():
    made = np.random.default_rng(1)
    original = Original(20.0, 9e5, 5.0, {n: float(made.uniform(0.5, 2)) for n in SITES})
    names = ("quantize_round", "quantize_float16")
    variants = [dict.fromkeys(SITES, option(name)) for name in names]
    variants += [{n: option(names[int(made.integers(2))]) for n in SITES} for _ in range(12)]

    def truth(variant):
        ms, memory = original.rest_ms, 1e5
        for name, candidate in variant.items():
            factor, constant = TRUE[candidate.name, SITES[name].kind]
            ms += factor * original.site_ms[name] + constant
            memory += BYTES[candidate.name] * SITES[name].size
        return memory, ms / original.ms

    prices = fitted(SITES, original, variants=variants, measured=np.array([*map(truth, variants)]))
    assert prices.error < 0.03
    for _ in range(5):
        fresh = {n: option(names[int(made.integers(2))]) for n in SITES}
        costs = np.array([prices.of(n, c) for n, c in fresh.items()]).sum(0) + prices.rest
        memory, share = truth(fresh)
        assert costs[0] == pytest.approx(memory, rel=0.02)
        assert costs[1] == pytest.approx(share * original.ms, rel=0.08)


def test_kernels_are_told_apart_by_the_width_of_what_they_read():
    def wide(installed, work=1.0):
        return Candidate((QuantizeRound(),), Option({}, 0.0, 1.0, installed, work), 0)

    assert kernel_of(wide(100), 100) == "quantize_round@8"
    assert kernel_of(wide(55), 100) == "quantize_round@4"
    assert kernel_of(wide(200, 0.5), 100) == "quantize_round@32"


def test_a_depthwise_convolution_is_a_kind_of_its_own():
    assert site_kind(Site("a", "conv", (8, 1, 3, 3), 8, 9, groups=8)) == "depthwise"
    assert site_kind(Site("a", "conv", (8, 4, 3, 3), 8, 36, groups=2)) == "conv"


@dataclass
class Told:
    """A bench that answers what it was told to, and remembers what was written."""

    scratch: object
    original: object = "original"
    arrays: tuple = (np.zeros((1, 3), np.float32),)
    threads: int = 1
    runtime: str = "onnxruntime"
    original_ms: float = 10.0
    written: list = field(default_factory=list)

    def measure(self, path):
        return 1e6, 1.0

    def write(self, encodings, path):
        self.written.append(dict(encodings))


@pytest.fixture
def priced(tmp_path, monkeypatch):
    monkeypatch.setenv("LILLIPUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(price_module, "operation_times", lambda *_, **__: [])
    monkeypatch.setattr(
        price_module, "by_site", lambda *_, **__: (dict.fromkeys(("first", "second"), 3.0), [])
    )
    profile, bench = made_profile(), Told(tmp_path)
    candidates = OptionTable(profile).candidates(["latency"])
    readers = {name: (name,) for name in profile.sites}
    subject = Subject(profile, candidates, tmp_path, readers, bench.write)
    return subject, bench, tmp_path / "cache"


def test_variants_are_measured_once_and_then_read(priced):
    subject, bench, cache = priced
    first = price(subject, bench)
    count = len(bench.written)
    assert count == first.variants > 6
    assert price(subject, bench) == first and len(bench.written) == count
    (file,) = cache.iterdir()
    file.write_text(file.read_text()[:50])
    assert price(subject, bench) == first and len(bench.written) == 2 * count
    bench.threads = 2
    assert price(subject, bench) == first and len(bench.written) == 3 * count


def test_a_cache_that_cannot_be_written_is_no_error(priced, monkeypatch):
    subject, bench, cache = priced
    cache.write_text("a file where the folder should be")
    assert price(subject, bench).variants == len(bench.written)


def test_prices_fill_the_options(priced):
    subject, bench, _ = priced
    prices = price(subject, bench)
    table = OptionTable(subject.profile)
    mixture = Mixture.of(table, Targets(None, None, None, latency=5.0), costs=prices)
    for name, some in mixture.candidates.items():
        for candidate in some:
            found = candidate.option.memory, candidate.option.latency
            assert found == prices.of(name, candidate)
    assert mixture.rest[2:].tolist() == list(prices.rest)
