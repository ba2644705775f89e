import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from graphs import graph, node, weight
from lilliput.errors import TaskError
from lilliput.model.calls import run_with
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.runtime.onnx_ports import Collate, apart, ports_of
from lilliput.runtime.onnx_read import OnnxFile

NAMES = ["plain", "a.b", "a.b.c", "type.w", "x..y", "forward", "w/1:0"]


def module_of(names: list[str]) -> OnnxModule:
    """x times one square matrix after the other."""
    values = ["x", *(f"h{i}" for i in range(len(names) - 1)), "y"]
    nodes = [node("MatMul", f"{values[i]} {name}", values[i + 1]) for i, name in enumerate(names)]
    weights = {name: weight(4, 4, seed=i) for i, name in enumerate(names)}
    model = ir.from_proto(graph(nodes, {"x": ["N", 4]}, ["y"], weights=weights))
    return OnnxModule(model, file=OnnxFile("m.onnx", model, True))


def product(module: OnnxModule, x: torch.Tensor) -> torch.Tensor:
    known = dict(module.named_parameters())
    for name in module.initializers:
        x = x @ known[name]
    return x


def test_parameters_have_the_files_names_and_can_be_replaced():
    module = module_of(NAMES)
    assert list(module.initializers.values()) == NAMES
    assert list(module.initializers) == [
        *("plain", "a.b", "a/b/c", "type/w", "x//y", "forward", "w/1:0"),
    ]
    x = torch.randn(3, 4)
    assert torch.allclose(module(x)["y"], product(module, x), rtol=1e-3, atol=1e-3)
    for name, value in module.named_parameters():
        replaced = run_with(module, {name: value * 2}, {"x": x})["y"]
        assert torch.allclose(replaced, 2 * module(x)["y"], rtol=1e-4), name


def test_an_edit_in_place_and_a_loaded_state_count():
    module, x = module_of(["v", "w"]), torch.randn(3, 4)
    before = module(x)["y"]
    with torch.no_grad():
        module.v.mul_(3)
    assert torch.allclose(module(x)["y"], 3 * before, rtol=1e-4)
    module.load_state_dict({"v": module.v / 3, "w": module.w})
    assert torch.allclose(module(x)["y"], before, rtol=1e-4)


def test_inputs_by_name_by_place_and_wrong_ones():
    module, x = module_of(["w"]), torch.randn(3, 4)
    assert torch.equal(module(x)["y"], module(x=x)["y"])
    with pytest.raises(TaskError, match=r"is given z \(it takes x \(float32, any x 4\)\)"):
        module(z=x)
    with pytest.raises(TaskError, match=r"cannot run the graph on x \(3, 5\)"):
        module(torch.randn(3, 5))


def ports(inputs, **kinds):
    return ports_of(ir.from_proto(graph([], inputs, [], weights={}, kinds=kinds)))


def test_the_batch_is_found_by_name_else_by_what_varies():
    found = ports({"x": ["batch", "time"], "state": [2, "batch", 8], "rate": []})
    assert [port.batch for port in found] == [0, 1, None]
    assert [port.batch for port in ports({"x": ["a", 4], "s": [2, "b", 8]})] == [0, 1]
    assert [port.batch for port in ports({"x": [1, 4], "s": [2, 1, 8]})] == [0, 1]


def test_examples_are_made_ready_or_refused():
    image, state, rate = ports(
        {"image": ["N", 3, 8, "W"], "state": [2, "N", 8], "rate": []}, rate=onnx.TensorProto.INT64
    )
    assert image.ready(np.zeros((3, 8, 5))).shape == (1, 3, 8, 5)
    assert image.ready(torch.zeros(1, 3, 8, 5)).dtype == np.float32
    assert state.ready(np.zeros((2, 8), np.float32)).shape == (2, 1, 8)
    assert rate.ready(np.int32(16000)).dtype == np.int64
    with pytest.raises(TaskError, match=r"image has shape \(3, 9, 5\), .* any x 3 x 8 x any"):
        image.ready(np.zeros((3, 9, 5)))
    with pytest.raises(TaskError, match=r"image has shape \(2, 3, 8, 5\)"):
        image.ready(np.zeros((2, 3, 8, 5)))
    with pytest.raises(TaskError, match=r"rate is given as float64, .* rate \(int64, one number\)"):
        rate.ready(16000.0)
    with pytest.raises(TaskError, match="image is given as int64"):
        image.ready(np.zeros((3, 8, 5), int))


def test_batches_are_joined_and_taken_apart_along_each_inputs_own_axis():
    known = ports({"x": ["N", 4], "state": [2, "N", 3], "rate": []})
    examples = [
        {port.name: port.ready(value) for port, value in zip(known, values, strict=True)}
        for values in zip(weight(3, 4), weight(3, 2, 3), [1.0, 1.0, 1.0], strict=True)
    ]
    batch = Collate(known)(examples)
    assert [tuple(value.shape) for value in batch.values()] == [(3, 4), (2, 3, 3), ()]
    for example, part in zip(examples, apart(known, batch), strict=True):
        assert all(np.array_equal(example[name], part[name].numpy()) for name in example)


def test_a_kind_of_input_that_cannot_be_given_is_named():
    with pytest.raises(TaskError, match="input words of the ONNX graph is STRING"):
        ports({"words": ["N"]}, words=onnx.TensorProto.STRING)
