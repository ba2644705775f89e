import hashlib

import numpy as np
import pytest

from lilliput.coding import family
from lilliput.coding.rans import TOTAL
from lilliput.coding.tokens import ranges

SCALES = np.arange(family.SCALES, dtype=np.int64)


def test_logarithm_and_power_are_close_to_the_real_ones() -> None:
    numbers = np.array([1, 2, 3, 5, 100, 12345, 2**36 + 12345])
    assert np.abs(family.log2(numbers) / 2**16 - np.log2(numbers)).max() < 3e-5
    exponents = np.array([0, 1, 1000, 65535, 65536, 300_000])
    error = family.exp2_negative(exponents) / 2**26 - 2.0 ** -(exponents / 2**16)
    assert np.abs(error).max() < 1e-6


@pytest.mark.parametrize("shape", [4, 8, 14, 16, 32])
@pytest.mark.parametrize("scale", [40, 64, 90, 150])
def test_density_is_the_generalised_gaussian(scale: int, shape: int) -> None:
    positions = np.array([1, 3, 9, 51, 101, 501, 10001])
    found = family.density(positions, np.array(scale), shape) / 2**26
    wanted = 2.0 ** -((positions / 16 / 2 ** ((scale - 64) / 8)) ** (shape / 8))
    assert np.abs(found - wanted).max() < 3e-5


@pytest.mark.parametrize("split", [1, 4, 6])
@pytest.mark.parametrize("zero", [0, 128, 255])
def test_every_table_is_valid(split: int, zero: int) -> None:
    most = 2 * len(ranges(split).first) - 1
    for shape in (4, 7, 14, 32):
        for escape in (1, 2, 3, 30, most):
            found = family.frequencies(SCALES, shape, zero, split=split, escape=min(escape, most))
            assert found.min() >= 0
            assert np.all(found.sum(1) == TOTAL)
            assert np.all(found[:, -1] >= 1)


def test_weights_fit_into_64_bits_with_the_factor_of_normalisation() -> None:
    for split in (1, 6):
        for shape in (4, 16, 32):
            totals = [int(family.weights(int(scale), shape, split).sum()) for scale in SCALES]
            assert 2 * max(totals) * TOTAL * 4 < 2**63


def test_tables_never_change() -> None:
    """The tables are part of the format: a changed digit makes old files unreadable."""
    found = family.frequencies(SCALES, 15, 131, split=5, escape=60).astype("<i8")
    assert hashlib.sha256(found.tobytes()).hexdigest() == DIGEST


DIGEST = "8d111c7abfa3b20979ae70a8a7c79f80cf0edeb80a9ff2198adee46727fcf308"
