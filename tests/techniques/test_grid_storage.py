import pytest
import torch

from lilliput.model.sites import Site
from lilliput.techniques.grid_storage import as_grid


def site(rows, columns):
    return Site("a", "linear", (rows, columns), rows, columns)


@pytest.mark.parametrize(
    ("values", "kind", "kept", "clipped"),
    [
        ([127, -127], torch.int8, [127, -127], 0),
        ([128, -3], torch.int16, [128, -3], 0),
        ([-128, 3], torch.int16, [-128, 3], 0),
        ([32767, -32767], torch.int16, [32767, -32767], 0),
        ([32768, -70000], torch.int16, [32767, -32767], 2),
        ([0, 0], torch.int8, [0, 0], 0),
    ],
)
def test_codes_take_the_narrowest_type_and_what_is_clipped_is_counted(values, kind, kept, clipped):
    codes = torch.tensor([values], dtype=torch.int32)
    grid = as_grid(site(1, 2), codes, row_steps=torch.tensor([0.5]))
    assert grid.codes.dtype == kind and grid.codes.tolist() == [kept]
    assert grid.clipped == clipped
    assert grid.decode().tolist() == [[0.5 * code for code in kept]]


def test_a_turned_site_decodes_in_the_parameters_own_shape():
    turned = Site("a", "matmul", (3, 2), 2, 3, transposed=True)
    codes = torch.arange(6, dtype=torch.int32).reshape(2, 3)
    columns = torch.tensor([1.0, 2.0, 4.0])
    value = as_grid(
        turned, codes, row_steps=torch.tensor([1.0, 10.0]), column_steps=columns
    ).decode()
    assert value.tolist() == [[0, 30], [2, 80], [8, 200]]
