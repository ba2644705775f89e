import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lilliput.coding import tokens

VALUES = st.lists(st.integers(-(2**32) + 1, 2**32 - 1), min_size=1)


@given(VALUES, st.integers(1, 6), st.booleans())
def test_values_round_trip(numbers: list[int], split: int, escaping: bool) -> None:
    values = np.array(numbers, np.int64)
    index = tokens.magnitude_indices(np.abs(values), split)
    coded = tokens.of_index(index, values)
    escape = 2 * int(index.max()) + 1
    if escaping:
        coded[::2] = escape
    fields, widths = tokens.raw_fields(values, coded, split, escape)
    found = tokens.raw_widths(split, escape)[coded]
    places = np.flatnonzero(found)
    assert np.array_equal(found[places], widths)
    assert np.all(fields < np.left_shift(1, widths))
    back = tokens.values_of(coded, split, escape, places=places, fields=fields)
    assert np.array_equal(back, values)


def test_ranges_tile_the_magnitudes() -> None:
    for split in range(1, 7):
        table = tokens.ranges(split)
        ends = table.first + np.left_shift(1, table.bits)
        assert np.array_equal(ends[:-1], table.first[1:])
        assert ends[-1] == 2**32
        assert 2 * len(table.first) - 1 < 255


def test_small_values_have_tokens_of_their_own() -> None:
    values = np.array([0, 1, -1, 2, -2])
    index = tokens.magnitude_indices(np.abs(values), 2)
    assert tokens.of_index(index, values).tolist() == [0, 1, 2, 3, 4]
