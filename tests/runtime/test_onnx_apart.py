"""Products on integers whatever stands behind them: the kernels that ONNX Runtime makes of them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from graphs import weight
from lilliput.model.capture import capture
from lilliput.model.observe import observe
from lilliput.model.profiles import Profile, site_profile
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_apart import set_apart
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_edit import Editor
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.techniques import QuantizeStatic

FLOAT = {"Gemm", "FusedGemm", "MatMul", "FusedMatMul", "DequantizeLinear"}
ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "leaky": nn.LeakyReLU,
}


class Residual(nn.Module):
    """What products give is added to what they read."""

    def __init__(self, bias):
        super().__init__()
        self.first, self.second = (nn.Linear(64, 64, bias=bias) for _ in range(2))

    def forward(self, value):
        value = value + self.first(value)
        return value + self.second(torch.tanh(value))


class Heard(nn.Module):
    """A recurrent layer, and two linear ones of its last step."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(32, 64, batch_first=True)
        self.wide, self.head = nn.Linear(64, 96), nn.Linear(96, 32)

    def forward(self, sound):
        states, _ = self.lstm(sound)
        return torch.sigmoid(self.head(torch.relu(self.wide(states[:, -1]))))


def stack(name, bias):
    if name == "residual":
        return Residual(bias)
    sizes = ((64, 96), (96, 64), (64, 32))
    layers = [nn.Linear(*size, bias=bias) for size in sizes]
    act = ACTIVATIONS[name]
    return nn.Sequential(layers[0], act(), layers[1], act(), layers[2])


def written(model, shape, folder, *, arithmetic="float32", sites=None):
    """The file, a batch, and the grids in it."""
    torch.manual_seed(0)
    model.eval().requires_grad_(False)
    batches = [torch.randn(8, *shape) for _ in range(4)]
    captured = capture(model, batches[0])
    moments = observe(captured, model, batches)
    known = {
        name: site_profile(site, moments[name], row_factors=None, macs=1, shared={})
        for name, site in captured.sites.items()
    }
    state = {name: value.detach() for name, value in model.named_parameters()}
    bindings = bind(
        export_original(model, batches[0], folder / "original.onnx"), captured.sites, state
    )
    grids = QuantizeStatic().apply(Profile("", known, state), sites or list(known))
    if arithmetic == "int8":
        grids = {n: replace(grid, inputs=None, outliers=None) for n, grid in grids.items()}
    path = folder / "model.onnx"
    assert write_encodings(bindings, grids, path, arithmetic=arithmetic) == []
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return path, batches[0], grids


def answer(path, batch, optimized=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def kernels(path, batch):
    optimized = path.parent / "optimized.onnx"
    answer(path, batch.numpy(), optimized)
    return Counter(node.op_type for node in onnx.load(optimized).graph.node)


@pytest.mark.parametrize("shape", [(64,), (5, 64)], ids=["two axes", "three"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "bare"])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "residual"])
def test_every_product_runs_on_integers(name, bias, shape, tmp_path):
    model = stack(name, bias)
    path, batch, grids = written(model, shape, tmp_path)
    found = kernels(path, batch)
    assert found["MatMulIntegerToFloat"] == len(grids) and not FLOAT & found.keys()
    assert signal_to_noise(model(batch).numpy(), answer(path, batch.numpy())) > 30


@pytest.mark.parametrize("shape", [(64,), (5, 64)], ids=["two axes", "three"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "bare"])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "residual"])
def test_int8_arithmetic_dequantizes_no_weight_at_each_call(name, bias, shape, tmp_path):
    model = stack(name, bias)
    path, batch, grids = written(model, shape, tmp_path, arithmetic="int8")
    found = kernels(path, batch)
    assert found["MatMulNBits"] == len(grids) and not FLOAT & found.keys()
    assert signal_to_noise(model(batch).numpy(), answer(path, batch.numpy())) > 30


def test_linear_layers_behind_a_recurrent_one_run_on_integers(tmp_path):
    model = Heard()
    path, batch, _ = written(model, (7, 32), tmp_path, sites=["wide.weight", "head.weight"])
    found = kernels(path, batch)
    assert found["MatMulIntegerToFloat"] == 2 and not FLOAT & found.keys()
    assert signal_to_noise(model(batch).numpy(), answer(path, batch.numpy())) > 30


def test_the_file_computes_what_the_encodings_say(tmp_path):
    """Rounded inputs times dequantized weights plus the bias, layer by layer."""
    model = stack("relu", bias=True)
    path, batch, grids = written(model, (64,), tmp_path)
    value = batch
    for place, layer in enumerate(model):
        grid = grids.get(f"{place}.weight")
        if grid is None:
            value = layer(value)
            continue
        assert grid.outliers is None
        columns = 1.0 if grid.column_steps is None else grid.column_steps
        value = grid.inputs.rounded(value * columns)
        value = value @ (grid.codes.float() * grid.row_steps[:, None]).t() + layer.bias
    assert signal_to_noise(value.numpy(), answer(path, batch.numpy())) > 45


def product(bias, *, turned, reader, alpha=1.0):
    """Gemm by dequantized integers, with a bias that is stored, computed or missing."""
    codes = np.random.default_rng(0).integers(-127, 128, (32, 48)).astype(np.int8)
    stored = {
        "codes": codes.T if turned else codes,
        "steps": np.linspace(0.001, 0.002, 48, dtype=np.float32),
        "step": np.array(0.03, np.float32),
        "zero": np.array(128, np.uint8),
        "bias": weight(48),
    }
    inputs = ["read", "weight", *{"stored": ["bias"], "computed": ["mean"], "none": []}[bias]]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "step", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["codes", "steps"], ["weight"], axis=1 - turned),
        helper.make_node("ReduceMax", ["x"], ["mean"]),
        helper.make_node("Gemm", inputs, ["product"], transB=int(turned), alpha=alpha),
        helper.make_node(reader, ["product"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 48])],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("reader", ["Relu", "Tanh"])
@pytest.mark.parametrize("turned", [False, True], ids=["in out", "out in"])
@pytest.mark.parametrize("bias", ["stored", "computed", "none"])
def test_a_gemm_of_any_layout_is_the_same_function_on_integers(bias, turned, reader, tmp_path):
    before = product(bias, turned=turned, reader=reader)
    model = ir.from_proto(before)
    set_apart(model, Editor(model.graph))
    path = tmp_path / "model.onnx"
    onnx.save(ir.to_proto(model), path)
    batch = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    wanted = answer(before.SerializeToString(), batch.numpy())
    np.testing.assert_allclose(answer(path, batch.numpy()), wanted, atol=1e-5)
    found = kernels(path, batch)
    assert found["MatMulIntegerToFloat"] == 1 and not FLOAT & found.keys()


def test_a_gemm_with_a_factor_stays_as_it_is():
    model = ir.from_proto(product("stored", turned=True, reader="Relu", alpha=0.5))
    before = ir.to_proto(model).SerializeToString()
    set_apart(model, Editor(model.graph))
    assert ir.to_proto(model).SerializeToString() == before
