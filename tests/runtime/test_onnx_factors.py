"""Products in the graph answer as PyTorch does with the multiplied weight."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lilliput.batches import flatten_inputs, flatten_tensors
from lilliput.model.calls import run_with
from lilliput.model.encodings import Dense, Grid, LowRank
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.sessions import default_session


def least_decibels(model, encodings, inputs, path):
    """The worst agreement with PyTorch over all outputs, in the default session."""
    session = default_session(path)
    names = [value.name for value in session.get_inputs()]
    answers = session.run(None, dict(zip(names, flatten_inputs(inputs), strict=True)))
    replaced = {name: encoding.decode() for name, encoding in encodings.items()}
    wanted = flatten_tensors(run_with(model, replaced, inputs))
    found = [signal_to_noise(w.numpy(), a) for w, a in zip(wanted, answers, strict=True)]
    return min(np.inf if value is None else value for value in found)


def rounded(factor):
    """A factor as int8 codes."""
    matrix = factor.reshape(len(factor), -1)
    steps = matrix.abs().amax(1).clamp_min(1e-8) / 127
    codes = torch.round(matrix / steps[:, None]).to(torch.int8)
    return Grid(codes, steps, None, tuple(factor.shape))


def matrices(value, rank, *, transposed=False, grids=False):
    """A random product with the shape of a 2-D parameter."""
    rows, columns = reversed(value.shape) if transposed else value.shape
    factors = [torch.randn(rank, columns) / columns**0.5, torch.randn(rows, rank) / rank**0.5]
    made = tuple(rounded(f) if grids else Dense(f) for f in factors)
    return LowRank(made, tuple(value.shape), transposed)


def chain(value, kind, rank, *, grids=False):
    """A random chain of convolutions with the shape of a convolution's weight."""
    out, inside, *kernel = value.shape
    ones = [1] * len(kernel)
    shapes = {
        "matrix": [(rank, inside, *kernel), (out, rank, *ones)],
        "tucker2": [(rank, inside, *ones), (rank + 1, rank, *kernel), (out, rank + 1, *ones)],
        "cp": [
            (rank, inside, *ones),
            *((rank, 1, *ones[:a], k, *ones[a + 1 :]) for a, k in enumerate(kernel)),
            (out, rank, *ones),
        ],
        "spatial": [(rank, inside, kernel[0], *ones[1:]), (out, rank, *ones[:1], *kernel[1:])],
    }[kind]
    factors = [torch.randn(shape) / np.prod(shape[1:]) ** 0.5 for shape in shapes]
    return LowRank(tuple(rounded(f) if grids else Dense(f) for f in factors), tuple(value.shape))


@pytest.mark.parametrize("grids", [False, True])
@pytest.mark.parametrize("arithmetic", ["float32", "int8"])
def test_products_of_matrices_wherever_they_are_read(language, grids, arithmetic, tmp_path):
    """A table that is also the output layer, equal layers, a raw (in, out) parameter."""
    state = dict(language.model.named_parameters())
    torch.manual_seed(1)
    names = ["embed.weight", "first.weight", "second.weight", "layer.linear1.weight"]
    encodings = {name: matrices(state[name], 5, grids=grids) for name in names}
    encodings["raw"] = matrices(state["raw"], 5, transposed=True, grids=grids)
    path = tmp_path / "model.onnx"
    assert write_encodings(language.bindings, encodings, path, arithmetic=arithmetic) == []
    onnx.checker.check_model(onnx.load(path), full_check=True)
    found = least_decibels(language.model, encodings, language.inputs, path)
    assert found > (105 if arithmetic == "float32" or not grids else 20)
    tensors = onnx.load(path).graph.initializer
    kind = onnx.TensorProto.INT8 if grids else onnx.TensorProto.FLOAT
    sizes = [int(np.prod(t.dims)) for t in tensors if ".factor" in t.name and t.data_type == kind]
    wanted = [5 * sum(state[name].shape) for name in encodings]
    assert sum(size for size in sizes if size >= 5 * 32) == sum(wanted)  # the tied table once


class Cut(nn.Module):
    """One weight read in two pieces."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 16))

    def forward(self, source):
        first = nn.functional.linear(source, self.weight[:20])
        return torch.cat([first, nn.functional.linear(source, self.weight[20:])], 1)


def test_a_weight_that_the_graph_holds_in_pieces_becomes_dense_and_says_so(tmp_path):
    model, inputs = Cut().eval(), torch.randn(2, 16)
    exported = export_original(model, inputs, tmp_path / "original.onnx")
    bindings = bind(exported, {}, dict(model.named_parameters()))
    encodings = {"weight": matrices(model.weight, 4)}
    (warning,) = write_encodings(bindings, encodings, tmp_path / "model.onnx")
    assert warning == (
        "weight: the ONNX graph holds it stacked or cut, so its factors are stored as their product"
    )
    assert least_decibels(model, encodings, inputs, tmp_path / "model.onnx") > 105


def test_a_packed_projection_is_split_whole(language, tmp_path):
    name = "layer.self_attn.in_proj_weight"
    encodings = {name: matrices(dict(language.model.named_parameters())[name], 4)}
    path = tmp_path / "model.onnx"
    assert write_encodings(language.bindings, encodings, path) == []
    assert least_decibels(language.model, encodings, language.inputs, path) > 105


def test_recurrent_weights_become_dense_and_say_so(recurrent, tmp_path):
    state = dict(recurrent.model.named_parameters())
    encodings = {name: matrices(state[name], 3) for name in ("gru.weight_ih_l0", "head.weight")}
    path = tmp_path / "model.onnx"
    (warning,) = write_encodings(recurrent.bindings, encodings, path)
    assert warning.startswith("gru.weight_ih_l0: the ONNX graph ")
    assert least_decibels(recurrent.model, encodings, recurrent.inputs, path) > 105


class Walks(nn.Module):
    """Convolutions of all kinds of strides, pads and dilations, with norms and biases."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 8, 3, padding=1)
        self.strided = nn.Conv2d(8, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dilated = nn.Conv2d(8, 8, 3, dilation=(2, 1), padding="same")
        self.point = nn.Conv2d(8, 8, 1, stride=2, padding=1)
        self.line = nn.Conv1d(8, 8, 3, padding=2, stride=2)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.norm.weight.data.uniform_(0.5, 2)
        self.norm.bias.data.normal_()

    def forward(self, image):
        hidden = self.norm(self.strided(self.plain(image))).relu()
        hidden = self.point(self.dilated(self.dilated(hidden)))
        return self.line(hidden.flatten(2))


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    torch.manual_seed(0)
    model, inputs = Walks().eval(), torch.randn(2, 3, 12, 12)
    path = tmp_path_factory.mktemp("walks") / "model.onnx"
    exported = export_original(model, inputs, path)
    return model, inputs, bind(exported, {}, dict(model.named_parameters()))


@pytest.mark.parametrize("grids", [False, True])
@pytest.mark.parametrize("kind", ["matrix", "tucker2", "cp", "spatial"])
def test_chains_of_convolutions_walk_as_the_one_they_replace(walks, kind, grids, tmp_path):
    model, inputs, bindings = walks
    state = dict(model.named_parameters())
    torch.manual_seed(1)
    names = ["plain.weight", "strided.weight", "dilated.weight", "point.weight", "line.weight"]
    names = names[:3] if kind == "spatial" else names
    encodings = {name: chain(state[name], kind, 3, grids=grids) for name in names}
    encodings |= {n: Dense(torch.randn(8)) for n in ("norm.weight", "norm.bias", "plain.bias")}
    path = tmp_path / "model.onnx"
    assert write_encodings(bindings, encodings, path) == []
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert least_decibels(model, encodings, inputs, path) > 100
    floats = [t for t in onnx.load(path).graph.initializer if t.data_type == 1]
    left = max(
        int(np.prod(t.dims)) for t in floats if "point" not in t.name and "line" not in t.name
    )
    assert not grids or left <= 8


def test_a_depthwise_convolution_becomes_dense_and_says_so(convolutions, tmp_path):
    value = dict(convolutions.model.named_parameters())["deep.weight"]
    encodings = {"deep.weight": chain(value, "matrix", 1)}
    path = tmp_path / "model.onnx"
    (warning,) = write_encodings(convolutions.bindings, encodings, path)
    assert warning.startswith("deep.weight: the ONNX graph reads it with Conv, so its factors")
    assert least_decibels(convolutions.model, encodings, convolutions.inputs, path) > 105
