import pytest
import torch
from benchmarks.models import Subject, relative_error
from benchmarks.peers import standard
from torch import nn

pytestmark = pytest.mark.skipif(
    not standard.PYTHON.exists(), reason="needs .venv-nncodec: sh benchmarks/setup.sh"
)


def subject():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 32)).requires_grad_(False)
    return Subject("net", model, (), (), relative_error, ())


def error(made, model, name):
    weight = dict(model.named_parameters())[name]
    return float((made.weights[name] - weight).norm() / weight.norm())


def test_files_are_within_their_targets_and_larger_ones_are_better():
    given = subject()
    made = list(standard.whole_model(given, [4_000, 6_000], {"opt_qp": True}))
    assert all(0.97 * t <= m.bytes <= t for m, t in zip(made, [4_000, 6_000], strict=True))
    errors = [error(each, given.model, "1.weight") for each in made]
    assert 0 < errors[1] < 0.8 * errors[0]


def test_given_steps_decide_how_well_each_row_is_kept():
    given = subject()
    rows = torch.full((128,), 0.01)
    rows[:64] = 0.04
    steps = {"0.weight": (rows, torch.ones(64)), "1.weight": (torch.full((32,), 0.02), None)}
    made = next(standard.whole_model_with_steps(given, [6_000], steps, {"vector_qp": -44}))
    difference = made.weights["0.weight"] - given.model[0].weight
    coarse, fine = difference[:64].square().mean(), difference[64:].square().mean()
    assert made.bytes <= 6_000
    assert 8 < float(coarse / fine) < 24  # steps four times as coarse: sixteen times the square
