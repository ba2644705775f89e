import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.coding.bits import Reader, pack_fields, unpack_fields, varint, zigzag
from lilliput.errors import ContainerError

FIELD = st.integers(0, 33).flatmap(lambda w: st.tuples(st.just(w), st.integers(0, 2**w - 1)))
FIELDS = st.lists(FIELD)


@given(FIELDS)
def test_fields_round_trip(pairs: list[tuple[int, int]]) -> None:
    widths = np.array([width for width, _ in pairs], np.int64)
    fields = np.array([field for _, field in pairs], np.int64)
    packed = pack_fields(fields, widths)
    assert len(packed) == (int(widths.sum()) + 7) // 8
    assert np.array_equal(unpack_fields(packed, widths), fields)


def test_fields_are_most_significant_bit_first() -> None:
    assert pack_fields(np.array([1, 2]), np.array([1, 3])) == bytes([0b1_010_0000])


@given(st.integers(0, 2**39))
def test_varint_round_trip(value: int) -> None:
    assert Reader(varint(value)).varint() == value


@given(st.integers(-(2**32), 2**32))
def test_zigzag_round_trip(value: int) -> None:
    assert Reader(varint(zigzag(value))).signed() == value


def test_reader_checks_before_it_reads() -> None:
    with pytest.raises(ContainerError, match="ends too early"):
        Reader(b"ab").take(3)
    with pytest.raises(ContainerError, match="ends too early"):
        Reader(b"\x80").varint()
    with pytest.raises(ContainerError, match="beyond the limit 10"):
        Reader(b"\x0a").varint(10)
    with pytest.raises(ContainerError, match="beyond the limit"):
        Reader(b"\xff" * 10).varint()
