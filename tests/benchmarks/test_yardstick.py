"""A file becomes a record: its share of the fp32 bytes, and what it costs on the test inputs."""

import pytest
import torch
from benchmarks.models import Subject, relative_error
from benchmarks.yardstick import Yardstick
from torch import nn


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(2 * torch.eye(3))

    def forward(self, x):
        return x @ self.weight


@pytest.fixture
def subject():
    batches = ({"x": torch.ones(4, 3)}, {"x": torch.arange(6.0).reshape(2, 3)})
    return Subject("doubling", Doubling(), (), batches, relative_error, ("weight",))


@pytest.mark.parametrize(("whole", "share"), [(None, 9 / 36), (90, 0.1)])
def test_bytes_count_against_the_weights_or_the_whole(subject, whole, share):
    filed = 9, {"weight": 1.5 * torch.eye(3)}
    yardstick = Yardstick("row", subject, 1, whole)
    found = yardstick.record("peer", "int4", filed=filed, details={"zeros": 6})
    assert found.key == ("peer", "int4", 1)
    assert (found.row, found.subject, found.bytes, found.share) == ("row", "doubling", 9, share)
    assert found.errors["relative"] == pytest.approx(0.25)
    assert found.details == {"zeros": 6} and "torch" in found.versions


def test_the_original_costs_nothing_and_stays(subject):
    filed = 36, {"weight": 2 * torch.eye(3)}
    assert Yardstick("row", subject, 0).record("none", "fp32", filed=filed).errors["relative"] == 0
    assert torch.equal(subject.model.weight, 2 * torch.eye(3))
