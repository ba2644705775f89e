from hypothesis import given
from hypothesis import strategies as st

from lilliput.splits import connected, default_sizes, split_components


def keys(count, copies=1):
    return [(i, (i // copies).to_bytes(4, "big")) for i in range(count)]


def test_default_sizes():
    assert default_sizes(8050) == (500, 750)
    assert default_sizes(100) == (25, 25)
    assert [default_sizes(n) for n in range(5)] == [(0, 0), (1, 0), (1, 0), (1, 1), (1, 1)]
    assert default_sizes(100, own_proof=True) == (50, 50)
    assert default_sizes(1, own_proof=True) == (1, 0)


@given(st.integers(0, 300), st.integers(1, 5), st.integers(0, 5))
def test_every_example_is_dealt_once_and_duplicates_stay_together(count, copies, seed):
    split = split_components(connected(keys(count, copies), None), default_sizes(count), seed=seed)
    dealt = [*split.calibration, *split.search, *split.proof]
    assert sorted(dealt) == list(range(count))
    for subset in (split.calibration, split.search, split.proof):
        assert {i // copies for i in subset}.isdisjoint(
            {i // copies for i in dealt} - {i // copies for i in subset}
        )
    if copies == 1:
        assert (len(split.calibration), len(split.search)) == default_sizes(count)


def test_the_seed_and_only_the_seed_changes_a_split():
    first, again, other = (
        split_components(connected(keys(200), None), (50, 50), seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    shuffled = split_components(connected(keys(200)[::-1], None), (50, 50), seed=0)
    assert set(shuffled.proof) == set(first.proof)


def test_groups_and_duplicates_join_through_each_other():
    entries = [(0, b"x"), (1, b"y"), (2, b"y"), (3, b"z")]
    found = connected(entries, ["a", "a", "b", "c"])
    assert sorted(sorted(i for i, _ in part) for part in found) == [[0, 1, 2], [3]]


def test_a_group_too_large_goes_to_the_proof_set():
    entries = keys(100)
    groups = ["big"] * 60 + list(range(40))
    for seed in range(5):
        split = split_components(connected(entries, groups), (25, 25), seed=seed)
        assert split.sizes() == {"calibration": 25, "search": 15, "proof": 60}
