import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conftest import laplace_codes
from lilliput.coding import code_bytes, decode_matrix, encode_matrix
from lilliput.coding.matrix_decoder import decode_matrices
from lilliput.errors import ContainerError

SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 9))
TYPES = st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64])


def entropy_bytes(codes: np.ndarray) -> float:
    _, counts = np.unique(codes, return_counts=True)
    return float((counts * np.log2(counts.sum() / counts)).sum() / 8)


@settings(max_examples=150)
@given(st.data())
def test_any_matrix_round_trips(data: st.DataObject) -> None:
    kind = data.draw(TYPES)
    limits = np.iinfo(kind)
    elements = st.integers(max(limits.min, -(2**31)), min(limits.max, 2**31 - 1))
    codes = data.draw(hnp.arrays(kind, data.draw(SHAPES), elements=elements))
    coded = encode_matrix(codes)
    assert np.array_equal(decode_matrix(coded), codes)
    assert decode_matrix(coded).shape == codes.shape
    assert code_bytes(codes) == len(coded)


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 3.0, 40.0, 3000.0, 1e8])
@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (64, 9), (200, 150)])
def test_smooth_matrices_round_trip(shape: tuple[int, int], scale: float) -> None:
    codes = laplace_codes(*shape, scale)
    assert np.array_equal(decode_matrix(encode_matrix(codes)), codes)


def test_outliers_escape() -> None:
    codes = laplace_codes(300, 300, 0.5)
    codes[7, 8], codes[250, 3], codes[0, 0] = 2**31 - 1, -(2**31), 77
    coded = encode_matrix(codes)
    assert np.array_equal(decode_matrix(coded), codes)
    assert len(coded) < entropy_bytes(codes) * 1.02


def test_constant_matrices_take_a_few_bytes() -> None:
    for value in (0, 1, -128, 2**31 - 1):
        coded = encode_matrix(np.full((300, 500), value))
        assert len(coded) < 14
        assert np.all(decode_matrix(coded) == value)


def test_row_and_column_spread_pays() -> None:
    codes = laplace_codes(384, 384, 2.0)
    assert code_bytes(codes) < 0.955 * entropy_bytes(codes)


def test_independent_codes_cost_their_entropy() -> None:
    codes = np.round(np.random.default_rng(0).normal(size=(384, 384)) * 2).astype(np.int8)
    assert code_bytes(codes) < 1.003 * entropy_bytes(codes)


def test_codes_of_no_family_cost_their_entropy() -> None:
    random = np.random.default_rng(0)
    codes = random.choice([-60, -7, 0, 3, 50], (300, 300), p=[0.1, 0.3, 0.1, 0.2, 0.3])
    assert code_bytes(codes) < 1.01 * entropy_bytes(codes)


def test_half_of_the_codes_pruned_costs_their_entropy() -> None:
    random = np.random.default_rng(0)
    codes = np.round(random.normal(size=(300, 300)) * 4).astype(int)
    codes *= random.random((300, 300)) < 0.5
    assert code_bytes(codes) < 1.01 * entropy_bytes(codes)


def test_unsigned_codes_around_a_zero_point_cost_no_more() -> None:
    codes = np.clip(laplace_codes(100, 100, 3.0), -127, 127)
    shifted = (codes + 128).astype(np.uint8)
    assert code_bytes(shifted) <= code_bytes(codes.astype(np.int8)) + 4


def test_same_codes_same_bytes() -> None:
    codes = laplace_codes(100, 80, 2.0)
    assert encode_matrix(codes) == encode_matrix(codes.astype(np.int64).copy(order="F"))


def test_lanes_cost_little() -> None:
    codes = laplace_codes(1536, 384, 2.0)
    several = encode_matrix(codes)
    assert np.array_equal(decode_matrix(several), codes)
    assert len(several) < 1.004 * (sum(code_bytes(part) for part in np.split(codes, 1)))


@pytest.mark.parametrize(
    "codes",
    [np.zeros(3, np.int8), np.zeros((2, 2)), np.full((1, 1), 2**31), np.zeros((1, 1), bool)],
)
def test_what_is_no_matrix_of_integers_is_refused(codes: np.ndarray) -> None:
    with pytest.raises(ContainerError, match=r"expected a matrix of integers|must lie in"):
        encode_matrix(codes)


def test_declared_size_is_checked_first() -> None:
    coded = encode_matrix(np.zeros((1, 1), np.int8))
    bomb = bytes([coded[0]]) + b"\xff\xff\xff\x7f" * 2 + coded[3:]
    with pytest.raises(ContainerError, match="declares more than"):
        decode_matrix(bomb)
    with pytest.raises(ContainerError, match="holds 72057593501057025 codes, expected 5"):
        decode_matrices([bomb], counts=[5], types=[np.dtype(np.int8)])


def test_codes_that_do_not_fit_their_type_are_refused() -> None:
    for codes in (np.full((4, 4), 300), laplace_codes(20, 20, 100.0)):
        with pytest.raises(ContainerError, match="does not fit int8"):
            decode_matrices([encode_matrix(codes)], counts=[codes.size], types=[np.dtype(np.int8)])


def test_mutations_are_refused_or_decode_to_the_right_size() -> None:
    """Below the checksums: whatever the bytes, an error of ours or a matrix; never a hang."""
    random = np.random.default_rng(0)
    sources = [
        laplace_codes(12, 10, 2.0),
        laplace_codes(40, 60, 1.0),
        laplace_codes(30, 20, 5000.0) + 100_000,
        random.choice([-100, 0, 3], (60, 60)),
        np.full((9, 9), 4),
    ]
    outcomes = []
    for source in sources:
        good = encode_matrix(source)
        for _ in range(40):
            bad = bytearray(good)
            for _ in range(random.integers(1, 4)):
                bad[random.integers(0, min(len(bad), 80))] = random.integers(0, 256)
            bad = bad[: random.integers(1, len(bad) + 1)] if random.random() < 0.3 else bad
            try:
                found = decode_matrix(bytes(bad), max_codes=1 << 16)
            except ContainerError as error:
                outcomes.append("\n" not in str(error))
            else:
                assert found.size <= 1 << 16
    assert all(outcomes)
    assert len(outcomes) > 120
