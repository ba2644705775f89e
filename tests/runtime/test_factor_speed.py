"""Products against whole weights in fresh processes; which is faster is the machine's to say."""

import numpy as np
import pytest
import torch

from lilliput.batches import flatten_inputs
from lilliput.model.encodings import Dense, LowRank
from lilliput.runtime.factor_speed import FactorSpeed, slower
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.processes import Worker


def product(value, rank):
    rows, columns = value.shape
    return LowRank(
        (Dense(torch.randn(rank, columns)), Dense(torch.randn(rows, rank))), (rows, columns)
    )


class Counted:
    """Opens workers, checks what they are given, and counts."""

    def __init__(self):
        self.paths = []

    def __call__(self, path):
        self.paths.append(path.name)
        return Worker(path, threads=1)


@pytest.fixture
def speed(language):
    return FactorSpeed(language.bindings, flatten_inputs(language.inputs), Counted(), seconds=0.01)


def test_every_way_a_matrix_is_read_is_measured_once_per_shape(language, speed):
    state = dict(language.model.named_parameters())
    names = ["embed.weight", "first.weight", "second.weight", "layer.linear1.weight", "raw"]
    encodings = {name: product(state[name], 5) for name in names}
    encodings["first.bias"] = Dense(torch.ones(32))
    ratios = speed.ratios(encodings)
    assert ratios.keys() == set(names)
    assert all(0 < lower <= ratio <= upper for ratio, lower, upper in ratios.values())
    assert ratios["first.weight"] == ratios["second.weight"]
    opened = list(speed.open_worker.paths)
    assert sorted(set(opened)) == ["factored.onnx", "whole.onnx"]
    assert len(opened) == 2 * len(speed.known) < 2 * len(names) + 1
    assert speed.ratios(encodings) == ratios and speed.open_worker.paths == opened


def test_rows_that_are_looked_up_are_measured(tmp_path):
    model, tokens = torch.nn.Embedding(50, 32).eval(), torch.randint(0, 50, (2, 7))
    exported = export_original(model, tokens, tmp_path / "model.onnx")
    bindings = bind(exported, {}, dict(model.named_parameters()))
    speed = FactorSpeed(bindings, [tokens.numpy()], Counted(), seconds=0.01)
    assert speed.ratios({"weight": product(model.weight, 5)}).keys() == {"weight"}


def test_a_product_that_the_graph_cannot_hold_is_left_out(recurrent):
    speed = FactorSpeed(recurrent.bindings, flatten_inputs(recurrent.inputs), Counted(), 0.01)
    state = dict(recurrent.model.named_parameters())
    encodings = {n: product(state[n], 2) for n in ("gru.weight_ih_l0", "head.weight")}
    assert speed.ratios(encodings).keys() == {"head.weight"}


def test_the_two_files_answer_alike(convolutions, monkeypatch):
    """What is measured is the same operation: equal answers to rounding."""
    answers = []

    class Asked(Worker):
        def milliseconds(self, arrays, calls):
            answers.append(self.run(arrays)[0])
            return super().milliseconds(arrays, calls)

    value = dict(convolutions.model.named_parameters())["stem.weight"]
    chain = LowRank(
        (Dense(torch.randn(2, 3, 3, 3)), Dense(torch.randn(8, 2, 1, 1))), tuple(value.shape)
    )
    speed = FactorSpeed(convolutions.bindings, flatten_inputs(convolutions.inputs), Asked, 0.01)
    assert speed.ratios({"stem.weight": chain}).keys() == {"stem.weight"}
    assert len(answers) > 4
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-3, atol=1e-3)


def test_only_what_is_shown_to_be_faster_is_faster():
    ratios = {"a": (0.5, 0.4, 0.6), "b": (0.9, 0.7, 1.1), "c": (2.0, 1.9, 2.1)}
    assert slower(ratios).keys() == {"b", "c"}
