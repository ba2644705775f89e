import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.coding import tables
from lilliput.coding.bits import Reader, varint
from lilliput.coding.rans import TOTAL
from lilliput.errors import ContainerError

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=200).filter(any)


@given(COUNTS)
def test_normalised_counts_sum_and_round_trip(counts: list[int]) -> None:
    found = tables.counted_tables(np.array([counts], np.float64))
    assert found.sum() == TOTAL
    assert np.all((found[0, :-1] > 0) == (np.array(counts) > 0))
    assert found[0, -1] >= 1
    stored = tables.write_tables(found)
    assert np.array_equal(tables.read_tables(Reader(stored), 1, len(counts)), found)


def test_frequencies_follow_the_counts() -> None:
    [found] = tables.counted_tables(np.array([[3.0, 1.0]]))
    assert found.tolist() == [3071, 1024, 1]


def test_a_table_that_does_not_sum_is_refused() -> None:
    stored = varint(2) + varint(4000) + varint(96)
    with pytest.raises(ContainerError, match="does not sum to 4096"):
        tables.read_tables(Reader(stored), 1, 5)
    with pytest.raises(ContainerError, match="beyond the limit 6"):
        tables.read_tables(Reader(varint(6)), 1, 5)


def test_bits_of_escapes_are_counted() -> None:
    table = np.array([[2048, 2047, 0, 1]])
    assert tables.table_bits(np.array([[1.0, 0.0, 1.0]]), table) == pytest.approx(13.0)
