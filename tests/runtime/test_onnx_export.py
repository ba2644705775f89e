import logging
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from lilliput.errors import CaptureError
from lilliput.runtime.onnx_export import export_original


def test_the_models_flags_and_weights_are_untouched(language):
    assert all(module.training for module in language.model.modules())
    assert not logging.root.manager.disable


def test_inputs_and_outputs_come_in_the_order_in_which_they_flatten(language):
    assert language.exported.inputs == ("scale", "tokens")
    graph = ir.load(language.exported.path).graph
    assert graph.inputs[1].shape == ir.Shape(["batch", "tokens_1"])
    assert [len(value.shape) for value in graph.outputs] == [3, 3]


def test_the_file_names_no_source_and_holds_nothing_twice(language):
    data = language.exported.path.read_bytes()
    assert b"conftest" not in data and b"stack_trace" not in data and b"/site-packages" not in data
    proto = onnx.load_from_string(data)
    onnx.checker.check_model(proto, full_check=True)
    arrays = [onnx.numpy_helper.to_array(t) for t in proto.graph.initializer]
    keys = [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]
    assert len(set(keys)) == len(keys)
    tied = [a for a in arrays if sorted(a.shape) == [32, 50]]
    assert len(tied) == 1  # the head reads the embedding, turned


def test_export_is_deterministic(convolutions, tmp_path):
    again = export_original(convolutions.model, convolutions.inputs, tmp_path / "again.onnx")
    assert again.path.read_bytes() == convolutions.exported.path.read_bytes()


def test_export_prints_nothing(capfd, recwarn, tmp_path):
    export_original(nn.Linear(3, 2), torch.randn(2, 3), tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "") and not recwarn.list


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 3) + 1


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


def test_a_model_that_cannot_be_captured_is_one_line_with_its_place(tmp_path):
    with pytest.raises(
        CaptureError, match=r"cannot be exported to ONNX: .*test_onnx_export.py:\d+"
    ):
        export_original(Branching(), torch.randn(2, 3), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("model", "said"),
    [(FixedBatch(), "cannot be exported|has shape"), (Random(), "differs from PyTorch's")],
)
def test_a_model_that_answers_differently_is_refused(model, said, tmp_path):
    with pytest.raises(CaptureError, match=said):
        export_original(model, torch.randn(2, 3), tmp_path / "m.onnx")


def test_a_dynamic_dimension_of_an_unknown_input_is_refused(tmp_path):
    with pytest.raises(CaptureError, match="inputs that do not exist: words"):
        export_original(
            nn.Linear(3, 2), torch.ones(2, 3), tmp_path / "m.onnx", dynamic={"words": [1]}
        )


def test_more_than_two_gigabytes_is_a_clear_error(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("lilliput.runtime.onnx_export._LARGEST_FILE", 10)
    with pytest.raises(CaptureError, match="holds at most 2 GB"):
        export_original(nn.Linear(3, 2), torch.ones(2, 3), tmp_path / "m.onnx")
    assert not np.any([p.suffix == ".onnx" for p in tmp_path.iterdir()])
