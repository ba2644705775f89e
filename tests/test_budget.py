import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.budget import FORMS, MEASURABLE, Budget, parse_limit, resolve_drop
from lilliput.errors import BudgetError
from lilliput.metrics import metric_by_name


@pytest.mark.parametrize(
    ("name", "value", "amount", "unit", "text"),
    [
        ("storage", "9%", 0.09, "share", "9%"),
        ("storage", 0.09, 0.09, "share", "9%"),
        ("storage", "0.09", 0.09, "share", "9%"),
        ("storage", "4MB", 4e6, "bytes", "4MB"),
        ("storage", "4 MiB", 4 * 2**20, "bytes", "4MiB"),
        ("storage", "4mb", 4e6, "bytes", "4mb"),
        ("installed", 4_000_000, 4e6, "bytes", "4000000B"),
        ("installed", "4000000", 4e6, "bytes", "4000000B"),
        ("memory", "1.5GiB", 1.5 * 2**30, "bytes", "1.5GiB"),
        ("latency", "5ms", 5, "ms", "5ms"),
        ("latency", "0.2 s", 200, "ms", "0.2s"),
        ("latency", "250us", 0.25, "ms", "250us"),
        ("latency", "50%", 0.5, "share", "50%"),
        ("drop", "1%", 0.01, "share", "1%"),
        ("drop", 0.01, 0.01, "metric", "0.01"),
        ("drop", "0.01", 0.01, "metric", "0.01"),
        ("drop", 2, 2, "metric", "2"),
        ("drop", "150%", 1.5, "share", "150%"),
    ],
)
def test_every_allowed_form(name, value, amount, unit, text):
    limit = parse_limit(name, value)
    assert limit.amount == pytest.approx(amount)
    assert (limit.unit, limit.text) == (unit, text)


NONSENSE = [
    "-3%", "12 parsecs", "", "%", "MB", "0", "0%", "100%", "1e400MB", "nan", "inf", "5 5", "1,5%",
    0, -1, 1.5, True, False, math.nan, math.inf, -0.1, [1], b"1%", None.__class__, "5 ms MB",
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("name", ["storage", "memory"])
def test_nonsense_is_echoed_with_the_allowed_form(name, value):
    with pytest.raises(BudgetError) as caught:
        Budget(**{name: value})
    assert repr(value) in caught.value.message
    assert caught.value.hint == f"give {FORMS[name]}"


@pytest.mark.parametrize(
    ("name", "value"), [("latency", "5MB"), ("latency", 5), ("storage", "5ms"), ("drop", "1MB")]
)
def test_a_unit_of_another_limit_is_refused(name, value):
    with pytest.raises(BudgetError, match=f"{name} .* is not a limit"):
        parse_limit(name, value)


def test_energy_cannot_be_measured_here():
    with pytest.raises(BudgetError, match=r"energy cannot be measured here .*storage, installed"):
        Budget(energy="50%")


def test_a_misspelt_limit_names_the_nearest():
    with pytest.raises(BudgetError, match="did you mean storage"):
        parse_limit("storge", "9%")


def test_objectives_and_the_default():
    assert Budget().text() == {"drop": "1%"}
    assert Budget().objective == "least storage"
    assert Budget(drop="2%").objective == "least storage"
    assert Budget(storage="9%", drop="1%").objective == "least damage"
    assert Budget(storage="9%").limit("drop") is None
    assert Budget(storage="9%").limit("storage").amount == pytest.approx(0.09)


@given(st.floats(min_value=1e-9, max_value=0.999999))
def test_the_text_of_a_share_reads_back(share):
    limit = parse_limit("storage", share)
    assert parse_limit("storage", limit.text).amount == pytest.approx(share, rel=1e-3, abs=1e-14)


@given(st.integers(min_value=1, max_value=10**14), st.sampled_from(MEASURABLE[:3]))
def test_bytes_read_back_exactly(size, name):
    limit = parse_limit(name, size)
    assert parse_limit(name, limit.text) == limit
    assert limit.resolve(12345) == size


def test_a_budget_round_trips_through_its_text():
    budget = Budget(storage=0.09, installed="30MB", memory=2**20, latency="5ms", drop="1.5%")
    again = Budget(**budget.text())
    assert again.text() == budget.text()
    assert [a.amount for a in again.limits] == [b.amount for b in budget.limits]


@given(st.integers(min_value=1, max_value=10**12), st.integers(min_value=1, max_value=99))
def test_a_share_of_bytes_is_rounded_down(original, percent):
    resolved = parse_limit("storage", f"{percent}%").resolve(original)
    assert resolved == original * percent // 100


@pytest.mark.parametrize(
    ("drop", "metric", "score", "allowed", "relative"),
    [
        ("1%", "accuracy", 0.8, 0.01, False),
        (0.01, "accuracy", 0.8, 0.01, False),
        ("1%", "agreement", 1.0, 0.01, False),
        ("5%", "perplexity", 20.0, 1.0, True),
        (1.5, "perplexity", 20.0, 1.5, False),
        ("5%", "mse", 4.0, 0.2, True),
        (0.02, "cosine", 1.0, 0.02, False),
        (0.3, "kl", 0.0, 0.3, False),
    ],
)
def test_what_a_drop_means_for_a_metric(drop, metric, score, allowed, relative):
    resolved = resolve_drop(parse_limit("drop", drop), metric_by_name(metric), score)
    assert resolved == (pytest.approx(allowed), relative)


@pytest.mark.parametrize("metric", ["cosine", "kl"])
def test_a_percentage_of_a_comparison_has_no_meaning(metric):
    with pytest.raises(BudgetError, match=r"percentage has no meaning .*plain number"):
        resolve_drop(parse_limit("drop", "1%"), metric_by_name(metric), 1.0)


def test_a_drop_beyond_the_metrics_range_is_refused():
    with pytest.raises(BudgetError, match="accuracy lies between 0 and 1"):
        resolve_drop(parse_limit("drop", 5), metric_by_name("accuracy"), 0.8)
    with pytest.raises(BudgetError, match="against its metric"):
        parse_limit("drop", 5).resolve(1.0)
