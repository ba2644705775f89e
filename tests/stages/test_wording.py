"""Numbers in words: short, right, and never promising more than was measured."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_reports import minilm, missed

from lilliput.records import Drop, Latency, LimitResult, Sizes
from lilliput.stages import wording

finite = st.floats(-1e9, 1e9, allow_nan=False)


def _value(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (0.0, "0"),
        (-0.00001234, "−1.23e−05"),
        (1234.5, "1,234"),
        (0.8, "0.8"),
        (12.0, "12"),
        (-0.0461, "−0.0461"),
        (4.2e9, "4.20e+09"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert wording.number(value) == text


@given(finite, st.integers(1, 5))
def test_number_keeps_its_digits(value: float, digits: int) -> None:
    read = _value(wording.number(value, digits))
    assert read == pytest.approx(value, rel=0.5000001 * 10.0 ** (1 - digits), abs=1e-300)


@given(st.floats(1e-4, 1e5), st.sampled_from([-1, 1]), st.integers(1, 5))
def test_a_bound_is_never_flattered(size: float, sign: int, digits: int) -> None:
    value = sign * size
    slack = 1e-8 * max(abs(value), 1e-4)
    assert _value(wording.number(value, digits, rounding="up")) >= value - slack
    assert _value(wording.number(value, digits, rounding="down")) <= value + slack


def test_rounding_up_keeps_what_is_exact() -> None:
    assert wording.number(100 * 0.0043, 2, rounding="up") == "0.43"
    assert wording.number(0.431, 2, rounding="up") == "0.44"
    assert wording.number(0.431, 2, rounding="down") == "0.43"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (8_093_338, "8.09 MB"),
        (999_700, "1 MB"),
        (4e9, "4 GB"),
        (2.5e15, "2,500 TB"),
    ],
)
def test_size(value: float | None, text: str) -> None:
    assert wording.size(value) == text


@pytest.mark.parametrize(
    ("original", "artifact", "text"),
    [
        (100, 9, "10 of 11 bytes gone"),
        (1000, 89, "10 of 11 bytes gone"),
        (1000, 92, "9 of 10 bytes gone"),
        (100, 25, "3 of 4 bytes gone"),
        (100, 50, "1 of 2 bytes gone"),
        (1000, 4, "249 of 250 bytes gone"),
        (100, 99, "about as large as the original"),
        (100, 130, "30 % larger than the original"),
        (None, 3, ""),
        (0, 0, ""),
        (5, None, ""),
    ],
)
def test_bytes_gone(original: int | None, artifact: int | None, text: str) -> None:
    assert wording.bytes_gone(original, artifact) == text


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_bytes_gone_never_overstates(original: int, artifact: int) -> None:
    words = wording.bytes_gone(original, artifact).split(" of ")
    if len(words) == 2:
        told = Fraction(int(words[0].replace(",", "")), int(words[1].split()[0].replace(",", "")))
        truth = 1 - Fraction(artifact, original)
        assert truth >= told
        assert truth - told <= Fraction(1, 20)


def test_times() -> None:
    assert wording.times(0.089) == "11 × less"
    assert wording.times(1.3) == "1.3 × as much"
    assert wording.times(1.01) == "the same"
    assert wording.times(0.0) == "0 %"


@given(st.text(max_size=400), st.integers(3, 200))
def test_clean_is_one_short_line(text: str, longest: int) -> None:
    line = wording.clean(text, longest)
    assert len(line) <= longest
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    assert line == wording.clean(line, longest)


def test_clean_keeps_both_ends_of_a_long_name() -> None:
    name = "encoder." + "x" * 500 + ".weight"
    assert wording.clean(name, 30).startswith("encoder.")
    assert wording.clean(name, 30).endswith(".weight")
    assert wording.clean("red \x1b[31m\n two") == "red �[31m two"


def _drop(metric: str, method: str = "bootstrap") -> Drop:
    drop = minilm().drop
    assert drop is not None
    return drop.model_copy(update={"metric": metric, "method": method})


def _limit(text: str) -> LimitResult:
    return minilm().limits[1].model_copy(update={"asked_text": text})


@pytest.mark.parametrize(
    ("metric", "method", "asked", "unit", "counted"),
    [
        ("accuracy", "score", "1%", "points", True),
        ("accuracy", "bootstrap", "0.01", "points", True),
        ("top5", "bootstrap", "1%", "points", True),
        ("f1", "bootstrap", "1%", "points", False),
        ("agreement", "exact", "0.01", "points", True),
        ("perplexity", "bootstrap", "5%", "percent", False),
        ("mse", "bootstrap", "0.3", "plain", False),
        ("cosine", "exact", "0.02", "plain", False),
        ("my own", "score", "2%", "points", True),
    ],
)
def test_unit_of_the_drop(metric: str, method: str, asked: str, unit: str, counted: bool) -> None:
    assert wording.drop_unit(_drop(metric, method), _limit(asked)) == unit
    assert wording.counts_answers(_drop(metric, method)) == counted


def test_without_a_limit_an_unknown_metric_is_told_plainly() -> None:
    assert wording.drop_unit(_drop("perplexity"), None) == "plain"


def test_drop_number() -> None:
    assert wording.drop_number(0.01, "points") == "1 point"
    assert wording.drop_number(-0.0001, "points") == "−0.01 points"
    assert wording.drop_number(0.123, "percent") == "12.3 %"
    assert wording.drop_number(0.0123, "plain") == "0.012"
    assert wording.drop_number(0.0123, "points", worded=False) == "1.2"
    assert wording.drop_number(math.inf, "plain") == "–"


def test_limits_in_their_own_units() -> None:
    storage, latency, loss = missed().limits
    assert wording.limit_asked(storage, "points") == "≤ 9 % (8.18 MB)"
    assert wording.limit_asked(latency, "points") == "≤ 5 ms"
    assert wording.limit_asked(loss, "points") == "≤ 1 % (1 point)"
    assert wording.limit_bounds(storage, "points") == ""
    assert wording.limit_bounds(latency, "points") == "4.9 ms to 5.6 ms"
    assert wording.limit_bounds(loss, "points") == "2.4 to 3.9 points"  # rounded apart
    energy = latency.model_copy(update={"name": "energy"})
    assert wording.limit_number(energy, 0.25, "points") == "0.25 J"


def test_pairs_leave_out_what_was_not_measured() -> None:
    sizes = Sizes(storage_bytes=10, latency_ms=Latency(p50=1, p95=2, batch=1, threads=1))
    rows = {p.key: p for p in wording.pairs(minilm(original=sizes, artifact=Sizes(score=0.5)))}
    assert list(rows) == ["storage_bytes", "latency_ms.p50", "latency_ms.p95", "score"]
    assert rows["storage_bytes"].ratio is None
    assert rows["latency_ms.p95"].artifact_text == "–"


def test_a_score_has_no_ratio_and_equal_counts_no_bars() -> None:
    rows = {pair.key: pair for pair in wording.pairs(minilm())}
    assert rows["score"].ratio is None
    assert not rows["score"].drawn
    assert rows["macs"].ratio == 1
    assert not rows["macs"].drawn
    assert rows["storage_bytes"].ratio == pytest.approx(0.0890026)
    assert rows["storage_bytes"].drawn
