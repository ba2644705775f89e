"""Geometry of the drawn interval, and the data behind the interactive charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_reports import bare, minilm, missed

from lilliput.stages.report_page.charts import chart_data, interval, ticks


def test_interval_holds_everything() -> None:
    picture = interval(missed())
    assert picture is not None
    order = [picture[key] for key in ("zero", "limit", "lower", "estimate", "upper")]
    assert order == sorted(order)
    assert order[0] > 0
    assert order[-1] < 100
    width = 0.0381 * 1.24  # from zero to the upper end, with both margins
    assert picture["estimate"] - picture["zero"] == pytest.approx(100 * 0.031 / width, abs=1e-3)


def test_no_interval_without_a_measured_drop() -> None:
    assert interval(bare()) is None


def test_interval_of_nothing_but_zero() -> None:
    drop = minilm().drop
    assert drop is not None
    zero = drop.model_copy(update={"estimate": 0.0, "lower": None, "upper": None})
    picture = interval(minilm(drop=zero, limits=()))
    assert picture is not None
    assert picture["zero"] == picture["estimate"]
    assert picture["open"]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(start: float, width: float) -> None:
    end = start + width
    if not end - start > width / 2:
        return
    places = ticks(start, end)
    assert 1 <= len(places) <= 7
    slack = 1e-6 * (end - start) + 1e-9 * abs(start)
    assert all(start - slack <= place <= end + slack for place in places)


def test_chart_data_is_the_reports() -> None:
    source = minilm()
    data = chart_data(source, 1000)
    bits = next(v for v in data["layers"]["values"] if v["key"] == "bits")
    assert bits["values"] == [site.bits for site in source.sites]
    assert data["layers"]["bound"] == [site.bound_bits for site in source.sites]
    assert len(data["sensitivity"]["points"]) == 38
    assert data["classes"]["label"] == ["positive", "negative"]
    assert data["classes"]["change"] == pytest.approx([-0.32, 0.34])


def test_many_classes_show_both_ends() -> None:
    drop = minilm().drop
    assert drop is not None
    entry = drop.per_class[0]
    many = tuple(
        entry.model_copy(update={"label": f"c{i}", "original": 0.5, "artifact": 0.5 + i / 1000})
        for i in range(200)
    )
    data = chart_data(minilm(drop=drop.model_copy(update={"per_class": many})), 1000)
    assert len(data["classes"]["label"]) == 30
    assert (data["classes"]["label"][0], data["classes"]["label"][-1]) == ("c0", "c199")


def test_zero_sensitivity_is_no_point_on_a_logarithmic_axis() -> None:
    sites = tuple(s.model_copy(update={"sensitivity": 0.0}) for s in minilm().sites)
    assert "sensitivity" not in chart_data(minilm(sites=sites), 1000)
