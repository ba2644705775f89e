"""Integer artifacts: equal to NumPy's integers bit for bit, and close to the float model."""

from importlib.util import find_spec

import integers
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from lilliput.errors import InputError
from lilliput.records import Artifact, Plan
from lilliput.runtime.fidelity import signal_to_noise
from lilliput.runtime.fixed_processes import FixedWorker, from_integers, to_integers
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.onnx_fixed import float_values, write_fixed
from lilliput.runtime.processes import Worker
from lilliput.tensor.fixed import fixed_codes, rounded, shifted, weight_exponents

RUNTIMES = ["onnxruntime", *(["openvino"] if find_spec("openvino") else [])]


class Picture(nn.Module):
    """Every kind of layer that a small vision network has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, groups=8, padding=1, stride=2)
        self.up = nn.Conv2d(8, 16, 1)
        self.wide = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=2)
        self.head = nn.Linear(16, 5)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, image: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.stem(image - 0.3)))
        hidden = nn.functional.max_pool2d(hidden, 3, 2, 1)
        hidden = nn.functional.relu6(3 * self.deep(hidden))
        hidden = self.up(hidden)
        hidden = hidden + torch.relu(self.wide(hidden))
        hidden = torch.cat([hidden * torch.sigmoid(hidden), hidden.tanh()], 1)[:, 8:24]
        return self.head(nn.functional.avg_pool2d(hidden, 2).mean((2, 3)))


class Residual(nn.Module):
    """Linear layers over sequences, a residual sum, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 24), nn.Linear(24, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = x + self.second(self.first(x).relu())
        hidden = hidden.relu() - 0.25
        return self.head(hidden), hidden.transpose(1, 2)


class Sound(nn.Module):
    """One axis; a parameter per channel; a mean over all time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv1d(2, 6, 5, stride=2), nn.Parameter(torch.rand(6, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.leaky_relu(self.conv(x)) * self.gain
        return nn.functional.adaptive_avg_pool1d(hidden, 1).flatten(1) / 3


NETS = {
    "picture": (Picture, (3, 16, 16), 30),
    "residual": (Residual, (7, 12), 30),
    "sound": (Sound, (2, 41), 30),
}


def made(name, folder):
    """The float model, some inputs, the integer file and its manifest."""
    torch.manual_seed(0)
    kind, shape, _ = NETS[name]
    model = kind().eval()
    exported = export_original(model, torch.randn(2, *shape), folder / "float.onnx")
    batches = [[torch.randn(8, *shape).numpy()] for _ in range(4)]
    ports = write_fixed(exported.path, folder / "fixed.onnx", batches=batches)
    manifest = Artifact(
        files={},
        inputs=exported.inputs,
        outputs=exported.outputs,
        fixed=ports,
        plan=Plan(model_hash="0", steps=()),
    )
    return model, torch.randn(5, *shape), folder / "fixed.onnx", manifest


@pytest.fixture(scope="module", params=list(NETS))
def fixed(request, tmp_path_factory):
    return request.param, *made(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_runtime_answers_as_numpys_integers_bit_for_bit(fixed, runtime):
    _, _, inputs, path, manifest = fixed
    graph = onnx.load(path)
    with Worker(path, threads=1, runtime=runtime) as worker:
        for scale in (1, 1e-3, 50, 1e9):  # all the way into the clipping
            for count in (5, 1):
                given = to_integers([inputs.numpy()[:count] * scale], manifest)
                wanted = integers.run(graph, given)  # an overflow would be an error
                answers = worker.run(given)
                assert len(wanted) == len(answers) == len(manifest.outputs)
                for want, answer in zip(wanted, answers, strict=True):
                    assert want.dtype == answer.dtype
                    np.testing.assert_array_equal(want, answer)


def test_no_value_of_the_graph_is_floating_point(fixed):
    path, manifest = fixed[3], fixed[4]
    graph = onnx.load(path)
    assert float_values(graph) == []
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
    assert not floats & {tensor.data_type for tensor in graph.graph.initializer}
    ports = {port.name: port.type for port in manifest.fixed}
    assert ports.keys() == {*manifest.inputs, *manifest.outputs}
    assert set(ports.values()) <= {"int8", "uint8", "int16"}
    assert "image" in float_values(onnx.load(path.with_name("float.onnx"))) or fixed[0] != "picture"
    assert {node.op_type for node in graph.graph.node} <= integers.OPERATORS.keys()


def test_it_answers_nearly_as_the_float_model(fixed):
    name, model, inputs, path, manifest = fixed
    with torch.no_grad():
        wanted = model(inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    with FixedWorker(path, manifest=manifest, threads=1) as worker:
        answers = worker.run([inputs.numpy()])
        assert len(worker.milliseconds([inputs.numpy()], 3)) == 3
    for want, answer in zip(wanted, answers, strict=True):
        assert answer.dtype == np.float32 and answer.shape == want.shape
        assert signal_to_noise(want.numpy(), answer) > NETS[name][2]


def test_the_same_bytes_twice(tmp_path, fixed):
    (tmp_path / "again").mkdir()
    again = made(fixed[0], tmp_path / "again")
    assert again[2].read_bytes() == fixed[3].read_bytes() and again[3] == fixed[4]


def test_one_layer_by_hand(tmp_path):
    """Codes, shifts and rounding as a firmware writer would compute them from the manifest."""
    torch.manual_seed(3)
    model = nn.Linear(6, 4)
    exported = export_original(model, torch.randn(2, 6), tmp_path / "float.onnx")
    batches = [[torch.randn(64, 6).numpy()]]
    given, answered = write_fixed(exported.path, tmp_path / "fixed.onnx", batches=batches)
    weight, bias = model.weight.detach().numpy(), model.bias.detach().numpy()
    exponents = weight_exponents(np.abs(weight).max(1), 8)
    codes = fixed_codes(weight, exponents[:, None], bits=8)
    inputs = torch.randn(9, 6).numpy()
    x = rounded(inputs * 2.0**given.exponent).clip(-128, 127)
    scale = given.exponent + exponents
    sums = x @ codes.T + rounded(bias * 2.0**scale)
    hand = shifted(sums, scale - answered.exponent).clip(-32767, 32767)
    with Worker(tmp_path / "fixed.onnx", threads=1) as worker:
        [found] = worker.run([x.astype(np.int8)])
    assert (given.type, answered.type, found.dtype) == ("int8", "int16", np.int16)
    np.testing.assert_array_equal(found, hand)


def test_inputs_are_clipped_and_outputs_scaled():
    ports = [
        {"name": "x", "type": "uint8", "exponent": 2},
        {"name": "y", "type": "int16", "exponent": -1},
    ]
    manifest = Artifact(
        files={}, inputs=("x", "n"), outputs=("y",), fixed=ports,
        plan=Plan(model_hash="0", steps=()),
    )  # fmt: skip
    count = np.array([3])
    codes, same = to_integers([np.array([-1, 0.1, 0.125, 99], np.float32), count], manifest)
    assert codes.tolist() == [0, 0, 1, 255] and codes.dtype == np.uint8 and same is count
    assert from_integers([np.array([-3, 4], np.int16)], manifest)[0].tolist() == [-6, 8]


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.transpose(1, 2)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Normed(), (6,), r"networks of Add, .*; LayerNormalization \(.*\) is not among them"),
        (nn.Softmax(1), (6,), "Softmax .* is not among them"),
        (nn.PReLU(), (6,), "PRelu .* is not among them"),
        (Attention(), (3, 6), "cannot take MatMul .* computed while it runs"),
        (nn.AvgPool2d(3, padding=1), (2, 6, 6), "AveragePool without padding"),
    ],
)
def test_what_it_cannot_take_is_named_and_nothing_is_written(tmp_path, model, shape, message):
    inputs = torch.randn(2, *shape)
    exported = export_original(model.eval(), inputs, tmp_path / "float.onnx")
    with pytest.raises(InputError, match=message):
        write_fixed(exported.path, tmp_path / "fixed.onnx", batches=[[inputs.numpy()]])
    assert not (tmp_path / "fixed.onnx").exists()


def test_calibration_examples_are_needed_and_must_be_finite(tmp_path):
    exported = export_original(nn.Linear(3, 3), torch.randn(2, 3), tmp_path / "float.onnx")
    with pytest.raises(InputError, match="needs calibration examples"):
        write_fixed(exported.path, tmp_path / "fixed.onnx", batches=[])
    endless = [[np.full((2, 3), np.inf, np.float32)]]
    with pytest.raises(InputError, match="is not finite"):
        write_fixed(exported.path, tmp_path / "fixed.onnx", batches=endless)
