"""Columns that stay float survive the weights-only file."""

import torch

from lilliput.model.encodings import Grid, Outliers
from lilliput.runtime.weights_file import read_weights, write_weights


def test_float_columns_come_back(tmp_path):
    made = torch.Generator().manual_seed(0)
    codes = torch.randint(-127, 128, (6, 9), generator=made).to(torch.int8)
    places = torch.tensor([2, 7])
    codes[:, places] = 0
    kept = torch.randn(6, 2, generator=made)
    steps, columns = torch.rand(6, generator=made), torch.rand(9, generator=made) + 0.5
    grid = Grid(codes, steps, columns, (6, 9), outliers=Outliers(places, kept))
    assert torch.equal(grid.decode()[:, places], kept)
    write_weights({"w": grid.decode()}, {"w": grid}, tmp_path / "weights.onnx")
    assert torch.equal(read_weights(tmp_path / "weights.onnx")["w"], grid.decode())
