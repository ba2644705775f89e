import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.fixed import (
    best_exponent,
    fixed_codes,
    rounded,
    row_exponents,
    shifted,
    weight_exponents,
)

INT32 = st.integers(-(2**31), 2**31 - 1)


@given(INT32, st.integers(0, 22))
def test_a_shift_to_the_right_rounds_to_nearest_halves_up(number, shift):
    quotient, rest = divmod(number, 2**shift)
    hand = quotient + (2 * rest >= 2**shift) if shift else number
    assert shifted(np.array(number), shift) == hand
    assert rounded(np.array(number / 2**shift)) == hand  # exact in double


@given(st.integers(-(2**20), 2**20), st.integers(0, 10))
def test_a_negative_shift_is_exact(number, shift):
    assert shifted(np.array(number), -shift) == number * 2**shift


@pytest.mark.parametrize("number", [-1.5, -0.5, 0.5, 1.5, 2.4999])
def test_halves_go_up(number):
    assert rounded(np.array(number)) == {-1.5: -1, -0.5: 0, 0.5: 1, 1.5: 2, 2.4999: 2}[number]


@given(st.floats(1e-12, 1e12), st.integers(2, 8))
def test_the_largest_weight_takes_the_upper_half_of_the_codes(largest, bits):
    exponent = weight_exponents(np.array(largest), bits)
    most = 2 ** (bits - 1) - 1
    code = largest * 2.0 ** float(exponent)
    assert most / 2 * (1 - 1e-4) < code <= most * (1 + 1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(-20, 20))
def test_what_is_on_a_grid_stays_there_however_many_bits_it_gets(seed, bits, exponent):
    draw = np.random.default_rng(seed)
    most = 2 ** (bits - 1) - 1
    weight = np.ldexp(draw.integers(-most, most + 1, 50).astype(np.float64), -exponent)
    noisy = (weight * (1 + 1e-7)).astype(np.float32)  # a step whose last bits are off
    found = weight_exponents(np.abs(noisy).max(keepdims=True), 8)
    again = np.ldexp(fixed_codes(noisy, found, bits=8).astype(np.float64), -found)
    np.testing.assert_array_equal(again, weight)


def test_one_outlier_is_clipped_where_that_costs_less():
    draw = np.random.default_rng(0)
    sample = draw.normal(size=4000)
    fine = best_exponent(sample, low=-128, high=127)
    assert np.abs(sample).max() * 2**fine < 2 * 127
    sample[0] = 9.0
    assert best_exponent(sample, low=-128, high=127) > int(np.floor(np.log2(127 / 9)))
    assert best_exponent(np.zeros(3), low=-128, high=127) == 0
    assert best_exponent(np.array([0.0, 255.0]), low=0, high=255) == 0


def test_rows_get_exponents_of_their_own():
    weight = torch.tensor([[1.27, -0.3], [0.004, 0.0], [0.0, 0.0]])
    exponents = row_exponents(weight, 8)
    assert exponents.tolist()[0] == 6 and exponents[1] > 13 and exponents.dtype == torch.int64
    codes = fixed_codes(weight.numpy(), exponents[:, None].numpy(), bits=8)
    assert np.abs(codes).max() <= 127
    lost = np.ldexp(codes.astype(float), -exponents[:, None].numpy()) - weight.numpy()
    assert np.all(np.abs(lost) <= np.exp2(-exponents.numpy().astype(float))[:, None] / 2)
