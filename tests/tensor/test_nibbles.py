import numpy as np
import pytest

from lilliput.tensor.packing import pack_codes, packed_width, unpack_codes


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("count", [1, 7, 8, 13])
def test_codes_come_back(width, count):
    codes = np.random.default_rng(0).integers(0, 2**width, (3, 5, count), np.uint8)
    packed = pack_codes(codes, width)
    assert packed.shape == (3, 5, -(-count * width // 8))
    np.testing.assert_array_equal(unpack_codes(packed, width, count=count), codes)


def test_the_first_code_lies_in_the_lowest_bits():
    assert pack_codes(np.array([1, 2], np.uint8), 4).tolist() == [0x21]
    assert pack_codes(np.array([1, 2, 3, 0], np.uint8), 2).tolist() == [0b00111001]


def test_three_bits_take_four_and_five_take_eight():
    assert [packed_width(bits) for bits in range(2, 9)] == [2, 4, 4, 8, 8, 8, 8]


def test_another_number_of_bytes_is_an_error():
    with pytest.raises(ValueError, match=r"3 bytes do not hold 8 codes of 4 bits"):
        unpack_codes(np.zeros(3, np.uint8), 4, count=8)
