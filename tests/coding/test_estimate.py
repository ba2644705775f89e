import time

import numpy as np
import pytest

from conftest import laplace_codes
from lilliput.coding import code_bytes, estimate_bits
from lilliput.errors import ContainerError


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("shape", [(128, 384), (60, 25), (500, 120)])
def test_within_two_percent_of_the_real_size(shape: tuple[int, int], scale: float) -> None:
    codes = laplace_codes(*shape, scale)
    real = 8 * code_bytes(codes)
    assert estimate_bits(codes) == pytest.approx(real, rel=0.02, abs=8 * 30)


def test_finer_grids_cost_more() -> None:
    bits = [estimate_bits(laplace_codes(64, 64, scale)) for scale in (0.2, 0.5, 1.0, 2.0, 4.0)]
    assert bits == sorted(bits)


def test_empty_and_constant() -> None:
    assert estimate_bits(np.zeros((0, 5), np.int8)) < 100
    assert estimate_bits(np.zeros((50, 50), np.int8)) < 300


def test_fast_enough_for_a_search() -> None:
    codes = np.clip(laplace_codes(128, 1536, 2.0), -127, 127).astype(np.int8)
    estimate_bits(codes)
    times = []
    for _ in range(9):
        start = time.process_time()
        estimate_bits(codes)
        times.append(time.process_time() - start)
    assert min(times) < 0.03


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ContainerError, match="expected a matrix of integers"):
        estimate_bits(np.zeros((2, 2)))
