import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import laplace_codes
from lilliput.coding import classes, family

CODE = st.lists(st.integers(0, 255), min_size=1, max_size=12)


@given(st.data())
def test_tables_made_piece_by_piece_are_those_of_the_grid(data: st.DataObject) -> None:
    row, column = data.draw(CODE), data.draw(CODE)
    strides = data.draw(st.tuples(*[st.sampled_from(classes.STRIDES)] * 2))
    scales = classes.Scales(
        data.draw(st.integers(0, 191)),
        strides,
        np.array(row if strides[0] else [], np.uint8),
        np.array(column if strides[1] else [], np.uint8),
    )
    shape = (len(row), len(column))
    grid = scales.grid(shape).reshape(-1)
    lazy = classes.TableGrid(scales, shape)
    assert len(lazy) == grid.size
    assert lazy.used.tolist() == np.unique(grid).tolist()
    start = data.draw(st.integers(0, grid.size))
    stop = data.draw(st.integers(start, grid.size + 5))
    assert np.array_equal(lazy.used[lazy[start:stop]], grid[start:stop])


@pytest.mark.parametrize("scale", [0.2, 1.0, 8.0])
def test_matched_scales_follow_the_spread(scale: float) -> None:
    random = np.random.default_rng(0)
    octaves = random.integers(-2, 3, 64), random.integers(-1, 2, 500)
    spread = 2.0 ** np.add.outer(*octaves) * scale
    codes = np.abs(np.round(random.normal(size=(64, 500)) * spread))
    row, column = classes.fit_sums(codes.sum(1), codes.sum(0), 6)
    assert np.abs(row - np.median(row) - 8 * (octaves[0] - np.median(octaves[0]))).max() <= 3
    assert np.abs(column - np.median(column) - 8 * octaves[1]).max() <= 8


def test_empty_lines_get_a_small_scale() -> None:
    codes = np.abs(laplace_codes(20, 30, 3.0))
    codes[4] = 0
    row, _ = classes.fit_sums(codes.sum(1, dtype=float), codes.sum(0, dtype=float), 6)
    assert row[4] == row.min() < np.median(row) - 8


@pytest.mark.parametrize("strides", [(0, 0), (1, 8), (4, 2), (0, 1), (2, 0)])
def test_coarser_strides_stay_near(strides: tuple[int, int]) -> None:
    row, column = np.arange(40, 90), np.arange(-9, 12)
    scales = classes.quantize_lines(row, column, strides)
    found = scales.grid((len(row), len(column))).astype(int)
    flat_row = row if strides[0] else np.full(len(row), round(row.mean()))
    flat_column = column if strides[1] else np.full(len(column), round(column.mean()))
    wanted = np.add.outer(flat_row, flat_column)
    assert np.abs(found - wanted).max() <= sum(strides) / 2 + 1
    assert found.max() < family.SCALES


def test_expected_magnitudes_are_those_of_the_family() -> None:
    means = classes.expected_magnitudes(6)
    assert np.all(np.diff(means) >= 0)
    assert means[112] == pytest.approx(8 * means[88], rel=0.03)
    assert means[120] / 2 ** ((120 - 64) / 8) == pytest.approx(0.71, abs=0.06)
