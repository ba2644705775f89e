"""Sentences about models whose bottleneck is known."""

import pytest

from lilliput.records import SiteReport
from lilliput.stages.answers import Times, answers

VNNI = ("avx2", "avx512_vnni")


def site(name, rows, columns, *, positions=100, sensitivity=1.0, kind="linear"):
    return SiteReport(
        name=name,
        kind=kind,
        shape=(rows, columns),
        encoding="dense",
        bits=32,
        original_bytes=4 * rows * columns,
        storage_bytes=None,
        damage=None,
        sensitivity=sensitivity,
        macs=positions * rows * columns,
    )


def times(sites, others, *, operations=10, features=VNNI):
    return Times(sites, others, operations, features)


BOTH = (site("a", 100, 300), site("b", 100, 100, sensitivity=50.0))


def test_bytes_and_sensitivity_need_no_runtime():
    told = answers(BOTH, None)
    assert len(told) == 2
    assert "160 kB in 2 sites" in told[0] and "a 75 %, b 25 %" in told[0]
    assert "up to 50 times" in told[1] and "most in b, a" in told[1]


@pytest.mark.parametrize(
    ("found", "because"),
    [
        (
            times({"a": 1.0}, {"Softmax": 3.0, "Exp": 1.0}),
            "80 % of the time is spent in operations",
        ),
        (times({"a": 9.0}, {"Exp": 1.0}, features=("avx2",)), "no integer dot products"),
        (times({"a": 0.9}, {"Exp": 0.1}, operations=400), "runtime's own overhead"),
    ],
)
def test_what_will_not_get_faster_is_said_with_the_reason(found, because):
    (sentence,) = [t for t in answers(BOTH, found) if "faster on this machine" in t]
    assert sentence.startswith("This will hardly get faster") and because in sentence


def test_what_can_get_faster_has_a_ceiling():
    told = answers(BOTH, times({"a": 8.0}, {"Exp": 2.0}))
    assert any("at most 2.5 times as fast" in t for t in told)  # 1 / (0.2 + 0.8 / 4)
    assert not any("read, not used" in t for t in told)


def test_weights_that_are_read_more_than_used_are_named_even_without_dot_products():
    big = (site("big", 4000, 4000, positions=1),)
    told = answers(big, times({"big": 9.0}, {"Exp": 1.0}, features=("avx2",)))
    assert any("weights are read, not used" in t for t in told)
