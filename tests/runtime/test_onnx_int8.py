"""What runs on integers: the kernels that ONNX Runtime makes of it, and what they answer."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from lilliput.model.capture import capture
from lilliput.model.observe import observe
from lilliput.model.profiles import Profile, site_profile
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.techniques import QuantizeDynamic, QuantizeStatic


class Residual(nn.Module):
    """Convolutions with every neighbour: rectifiers, a pool, an addition, a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.wide = nn.Sequential(nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.ReLU6())
        self.depth = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.BatchNorm2d(32), nn.ReLU6()
        )
        self.narrow = nn.Sequential(nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16))
        self.last = nn.Conv2d(16, 32, 1)
        self.head = nn.Linear(32, 40)

    def forward(self, pixels):
        first = self.pool(self.stem(pixels))
        value = first + self.narrow(self.depth(self.wide(first)))
        return self.head(torch.relu(self.last(value)).mean((2, 3)))


class Attended(nn.Module):
    """Three products of the same inputs, with outliers, and a fourth of theirs."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.parts = nn.ModuleList(nn.Linear(64, 64) for _ in range(3))
        self.out = nn.Linear(64, 48)

    def forward(self, states):
        states = self.norm(states)
        query, key, value = (part(states) for part in self.parts)
        return self.out(torch.softmax(query @ key.transpose(1, 2) / 8, -1) @ value)


def prepared(model, batches, path, dynamic=None):
    torch.manual_seed(0)
    captured = capture(model, batches[0], dynamic=dynamic or ())
    moments = observe(captured, model, batches)
    sites = {
        name: site_profile(site, moments[name], row_factors=None, macs=1, shared={})
        for name, site in captured.sites.items()
    }
    state = {name: value.detach() for name, value in model.named_parameters()}
    exported = export_original(model, batches[0], path)
    return Profile("", sites, state), bind(exported, captured.sites, state)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    torch.manual_seed(1)
    model = Residual()
    batches = [torch.randn(16, 3, 16, 16) for _ in range(4)]
    model.train()
    for batch in batches:
        model(batch)
    with torch.no_grad():  # a channel that is turned round, and one that is dead
        model.stem[1].weight[:2] = torch.tensor([-1.0, 0.0])
    model.eval().requires_grad_(False)
    return (model, batches, *prepared(model, batches, tmp_path_factory.mktemp("a") / "m.onnx"))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Channels that reach very differently far."""
    torch.manual_seed(3)
    model = Residual().eval().requires_grad_(False)
    for block in (model.wide, model.depth):
        block[1].weight.copy_(torch.logspace(-2, 0.5, 32))
        block[1].bias.copy_(block[1].weight / 2)
    batches = [torch.randn(16, 3, 16, 16) for _ in range(4)]
    return (model, batches, *prepared(model, batches, tmp_path_factory.mktemp("c") / "m.onnx"))


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    torch.manual_seed(2)
    model = Attended().eval().requires_grad_(False)
    model.norm.weight[5] = 40.0
    batches = [torch.randn(8, 10, 64) for _ in range(8)]
    return (model, batches, *prepared(model, batches, tmp_path_factory.mktemp("b") / "m.onnx"))


def written(sample, technique, path):
    profile, bindings = sample[2:]
    encodings = technique.apply(profile, list(profile.sites))
    assert write_encodings(bindings, encodings, path) == []
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return encodings


def opened(path, optimized=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Products by dequantized weights whose inputs are not rounded are computed in floats.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answer(path, batch, optimized=None):
    session = opened(path, optimized)
    return session.run(None, {session.get_inputs()[0].name: batch.numpy()})[0]


def kernels(path, tmp_path, batch):
    answer(path, batch, tmp_path / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


def test_all_convolutions_and_additions_run_on_integers(pictures, tmp_path):
    path = tmp_path / "model.onnx"
    written(pictures, QuantizeStatic(), path)
    found = kernels(path, tmp_path, pictures[1][0])
    assert found["QLinearConv"] == 5 and found["QLinearAdd"] == 1
    assert found["MatMulIntegerToFloat"] == 1
    assert not found["Conv"] and not found["Clip"] and not found["Relu"]
    wanted = pictures[0](pictures[1][0]).numpy()
    assert signal_to_noise(wanted, answer(path, pictures[1][0])) > 25


def test_products_of_the_same_inputs_round_them_once(states, tmp_path):
    path = tmp_path / "model.onnx"
    made = written(states, QuantizeStatic(), path)
    stored = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert stored["QuantizeLinear"] == 2 and stored["Gather"] == 1
    assert kernels(path, tmp_path, states[1][0])["MatMulIntegerToFloat"] == 4
    assert made["parts.0.weight"].outliers.places.tolist() == [5]
    wanted = states[0](states[1][0]).numpy()
    assert signal_to_noise(wanted, answer(path, states[1][0])) > 30


def test_dynamic_rounding_needs_no_calibration(states, tmp_path):
    path = tmp_path / "model.onnx"
    model, batches, profile, bindings = states
    bare = {name: replace(known, inputs=None, second=None) for name, known in profile.sites.items()}
    written((model, batches, replace(profile, sites=bare), bindings), QuantizeDynamic(), path)
    found = kernels(path, tmp_path, batches[0])
    assert found["MatMulIntegerToFloat"] + found["DynamicQuantizeMatMul"] == 4
    assert found["DynamicQuantizeLinear"] <= 1  # three share one, the fourth is fused
    found = signal_to_noise(model(batches[0]).numpy(), answer(path, batches[0]))
    assert 10 < found < 30  # the outlier takes the grid from the others


def test_the_file_computes_what_the_encodings_say(states, tmp_path):
    """The integers of one layer, by hand, against a file with only that layer rounded."""
    model, batches, profile, bindings = states
    name, path = "out.weight", tmp_path / "model.onnx"
    grid = QuantizeStatic(outliers=0).apply(profile, (name,))[name]
    write_encodings(bindings, {name: grid}, path)
    seen = []
    handle = model.out.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model(batches[0])
    handle.remove()
    scaled = grid.inputs.rounded(seen[0] * grid.column_steps)
    weight = grid.codes.float() * grid.row_steps[:, None]
    wanted = (scaled @ weight.t() + model.out.bias).numpy()
    assert signal_to_noise(wanted, answer(path, batches[0])) > 45


def unrounded(path, changed):
    """The same graph without the rounding of activations."""
    model = onnx.load(path)
    graph, stored = model.graph, {one.name for one in model.graph.initializer}
    sources = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    passed = {n.output[0]: sources[n.input[0]] for n in graph.node if n.input[0] in sources}
    assert sources and len(passed) == len(sources) and not stored & sources.keys()
    for node in graph.node:
        node.input[:] = [passed.get(name, name) for name in node.input]
    onnx.save(model, changed)
    return changed


def test_equalized_convolutions_are_the_same_function_on_finer_grids(uneven, tmp_path):
    """ReLU6 included: no channel grows beyond the largest one."""
    model, batches, profile, _ = uneven
    able = {name for name, known in profile.sites.items() if known.absorbed}
    assert able == {"depth.0.weight", "narrow.0.weight"}
    path, found = tmp_path / "model.onnx", {}
    wanted = model(batches[0]).numpy()
    for technique in (QuantizeStatic(), QuantizeStatic(equalize=True)):
        made = written(uneven, technique, path)
        found[technique.equalize] = signal_to_noise(wanted, answer(path, batches[0]))
    assert {name for name, grid in made.items() if grid.channels is not None} == able
    assert made["narrow.0.weight"].channels.max() > 4
    assert kernels(path, tmp_path, batches[0])["QLinearConv"] == 5
    multiplied = [node for node in onnx.load(path).graph.node if node.op_type == "Mul"]
    assert len(multiplied) == 1  # what the linear layer reads
    values = {name: grid.decode() for name, grid in made.items()}
    same = torch.func.functional_call(model, values, (batches[0],)).numpy()
    exact = answer(unrounded(path, tmp_path / "float.onnx"), batches[0])
    assert signal_to_noise(same, exact) > 60
    assert found[True] > found[False] + 2


def test_channels_that_no_convolution_before_multiplies_are_multiplied_apart(uneven, tmp_path):
    """As in a plan that names the second of two layers only."""
    model, batches, profile, bindings = uneven
    made = QuantizeStatic(equalize=True).apply(profile, ["narrow.0.weight"])
    write_encodings(bindings, made, tmp_path / "model.onnx")
    values = {name: grid.decode() for name, grid in made.items()}
    same = torch.func.functional_call(model, values, (batches[0],)).numpy()
    exact = answer(unrounded(tmp_path / "model.onnx", tmp_path / "float.onnx"), batches[0])
    assert signal_to_noise(same, exact) > 60


def test_it_is_said_where_inputs_stay_float(pictures, tmp_path):
    """No kernel multiplies what a convolution reads by a factor of its own at each place."""
    model, batches, profile, bindings = pictures
    name, path = "last.weight", tmp_path / "model.onnx"
    grid = QuantizeStatic().apply(profile, (name,))[name]
    grid = replace(grid, column_steps=torch.linspace(0.5, 2, 16))
    (warning,) = write_encodings(bindings, {name: grid}, path)
    assert warning == f"{name}: its inputs stay float: Conv has no integer kernel for it"
    wanted = torch.func.functional_call(model, {name: grid.decode()}, (batches[0],)).numpy()
    assert signal_to_noise(wanted, answer(path, batches[0])) > 80


def test_a_convolution_that_stays_float_between_integers_keeps_its_weight(uneven, tmp_path):
    """The runtime would round it with one step for all of its channels."""
    model, batches, profile, bindings = uneven
    path, rest = tmp_path / "model.onnx", [n for n in profile.sites if n != "depth.0.weight"]
    made = QuantizeStatic().apply(profile, rest)
    assert write_encodings(bindings, made, path) == []
    onnx.checker.check_model(onnx.load(path), full_check=True)
    found = kernels(path, tmp_path, batches[0])
    assert found["QLinearConv"] == 4 and found["Conv"] + found["FusedConv"] == 1
    assert signal_to_noise(model(batches[0]).numpy(), answer(path, batches[0])) > 45


def test_the_bias_of_a_dead_channel_is_not_cut_off(pictures, tmp_path):
    """Next to no weight makes a step on which the bias is no 32-bit sum."""
    model, batches, profile, bindings = pictures
    weight = profile.parameters["last.weight"].clone()
    weight[::2] *= 1e-12
    changed = replace(profile, parameters=profile.parameters | {"last.weight": weight})
    made = QuantizeStatic().apply(changed, list(profile.sites))
    path = tmp_path / "model.onnx"
    assert write_encodings(bindings, made, path) == []
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    steps, sums = stored["last.weight.sums.steps"], stored["last.weight.sums"]
    bias = model.last.bias.numpy()
    assert np.abs(steps * sums - bias).max() < 0.01 * np.abs(bias).max()
    values = {name: one.decode() for name, one in made.items()}
    wanted = torch.func.functional_call(model, values, (batches[0],)).numpy()
    assert signal_to_noise(wanted, answer(path, batches[0])) > 25


@pytest.mark.parametrize("technique", [QuantizeStatic(), QuantizeDynamic()], ids=lambda t: t.name)
def test_openvino_reads_the_same_file(technique, states, pictures, tmp_path):
    openvino = pytest.importorskip("openvino")
    for number, sample in enumerate((states, pictures)):
        path = tmp_path / f"{number}.onnx"
        written(sample, technique, path)
        batch = sample[1][0]
        compiled = openvino.Core().compile_model(
            str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        found = np.array(compiled(batch.numpy())[0])
        wanted = answer(path, batch)  # identical is welcome
        assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)
