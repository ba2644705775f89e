"""Sites of ONNX graphs: a change of a weight costs what the moments of its inputs say."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from nets import Convolutions, Recurrent
from onnx import helper

from graphs import graph, node, weight
from lilliput.errors import TaskError
from lilliput.model.calls import run_with
from lilliput.model.capture import Capture, capture
from lilliput.model.encodings import Grid
from lilliput.model.observe import observe
from lilliput.model.sites import Site
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.onnx_inventory import bind_onnx, capture_onnx
from lilliput.runtime.onnx_module import OnnxModule
from lilliput.runtime.onnx_read import OnnxFile, read_onnx
from lilliput.runtime.onnx_simplify import simplify
from lilliput.runtime.sessions import default_session


def module_of(model: onnx.ModelProto) -> OnnxModule:
    found = ir.from_proto(model)
    for number, inner in enumerate(found.graph.all_nodes()):
        inner.name = inner.name or f"node_{number}"
    return OnnxModule(found, file=OnnxFile("m.onnx", found, True))


def one(layer: onnx.NodeProto, shape: tuple[int, ...], sizes: list[int | str]) -> OnnxModule:
    """One operator; a matrix as its input is one call, no batch of examples."""
    module = module_of(graph([layer], {"x": sizes}, ["y"], weights={"w": weight(*shape)}))
    if len(sizes) == 2:
        module.ports = tuple(replace(port, batch=None) for port in module.ports)
    return module


VECTORS, IMAGES = torch.randn(6, 20), torch.randn(3, 4, 9, 7)
LAYERS = {
    "matmul": (node("MatMul", "x w", "y"), (20, 30), VECTORS),
    "matmul from the left": (node("MatMul", "w x", "y"), (50, 6), VECTORS),
    "gemm": (node("Gemm", "x w", "y"), (20, 30), VECTORS),
    "gemm turned": (node("Gemm", "x w", "y", transB=1), (30, 20), VECTORS),
    "gemm of a turned input": (node("Gemm", "x w", "y", transA=1), (6, 50), VECTORS),
    "gemm from the left": (node("Gemm", "w x", "y"), (50, 6), VECTORS),
    "gemm turned from the left": (node("Gemm", "w x", "y", transA=1), (6, 50), VECTORS),
    "gemm from the left of a turned input": (
        node("Gemm", "w x", "y", transB=1), (30, 20), VECTORS,
    ),
    "conv": (node("Conv", "x w", "y", pads=[1, 0, 2, 1], strides=[2, 1]), (8, 4, 3, 3), IMAGES),
    "conv of groups": (node("Conv", "x w", "y", group=2, dilations=[2, 1]), (16, 2, 3, 3), IMAGES),
    "conv that keeps its size": (
        node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2]), (8, 4, 4, 3), IMAGES,
    ),
    "conv that keeps its size, from below": (
        node("Conv", "x w", "y", auto_pad="SAME_LOWER"), (8, 4, 4, 3), IMAGES,
    ),
    "transposed conv": (
        node("ConvTranspose", "x w", "y", strides=[2, 3]), (4, 20, 2, 3), IMAGES,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_changed_weight_costs_what_the_moments_say(name):
    layer, shape, inputs = LAYERS[name]
    sizes = ["N", *inputs.shape[1:]] if inputs.ndim == 4 else list(inputs.shape)
    module = one(layer, shape, sizes)
    captured = capture_onnx(module, {"x": inputs})
    site = captured.sites["w"]
    assert torch.equal(site.parameter(site.matrix(module.w)), module.w)
    second = observe(captured, module, [{"x": inputs}])["w"].second
    change = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    moved = run_with(module, {"w": module.w + change}, {"x": inputs})["y"] - module(inputs)["y"]
    rows = site.matrix(change).reshape(len(second), -1, site.columns)
    expected = torch.einsum("gri,gij,grj->", rows, second, rows)
    assert float(moved.square().sum()) == pytest.approx(float(expected), rel=1e-3)


def coded(site: Site, value: torch.Tensor) -> Grid:
    matrix = site.matrix(value)
    steps, columns = matrix.abs().amax(1) / 100, torch.linspace(0.5, 1.5, site.columns)
    codes = torch.round(matrix / columns / steps[:, None]).clamp(-127, 127).to(torch.int8)
    return Grid(codes, steps, columns, site.shape, site.transposed)


@pytest.mark.parametrize("name", LAYERS)
def test_integers_are_written_where_the_weight_is(name, tmp_path):
    layer, shape, inputs = LAYERS[name]
    sizes = ["N", *inputs.shape[1:]] if inputs.ndim == 4 else list(inputs.shape)
    module = one(layer, shape, sizes)
    (site,) = capture_onnx(module, {"x": inputs}).sites.values()
    grid = coded(site, module.w)
    bound = bind_onnx(module, tmp_path / "before.onnx")
    assert write_encodings(bound, {"w": grid}, tmp_path / "after.onnx") == []
    expected = run_with(module, {"w": grid.decode()}, {"x": inputs})["y"].numpy()
    (answer,) = default_session(tmp_path / "after.onnx").run(None, {"x": inputs.numpy()})
    assert np.abs(answer - expected).max() <= 1e-4 * np.abs(expected).max()


def test_integers_are_written_for_weights_in_branches(tmp_path):
    module, captured, batch = captured_branches()
    known = dict(module.named_parameters())
    grids = {name: coded(site, known[name]) for name, site in captured.sites.items()}
    bound = bind_onnx(module, tmp_path / "before.onnx")
    assert write_encodings(bound, grids, tmp_path / "after.onnx") == []
    session = default_session(tmp_path / "after.onnx")
    for flag in (True, False):
        feed = {**batch, "flag": torch.tensor(flag)}
        values = {name: grid.decode() for name, grid in grids.items()}
        expected = run_with(module, values, feed)["y"].numpy()
        (answer,) = session.run(None, {name: value.numpy() for name, value in feed.items()})
        assert np.abs(answer - expected).max() <= 1e-4 * np.abs(expected).max()


def test_how_far_a_convolutions_inputs_and_results_reach_is_seen():
    layer, shape, inputs = LAYERS["conv"]
    module = one(layer, shape, ["N", *inputs.shape[1:]])
    found = observe(capture_onnx(module, {"x": inputs}), module, [{"x": inputs}])["w"]
    answers = module(inputs)["y"]
    assert float(found.inputs.low.min()) == pytest.approx(float(inputs.min()))
    assert float(found.inputs.high.max()) == pytest.approx(float(inputs.max()))
    assert float(found.results.high.max()) == pytest.approx(float(answers.max()), rel=1e-5)


def test_an_embedding_counts_its_rows_and_a_tied_turned_one_is_one_site():
    nodes = [
        node("Gather", "w ids", "h"),
        node("Transpose", "w", "t", perm=[1, 0]),
        node("MatMul", "h t", "y"),
    ]
    kinds = {"ids": onnx.TensorProto.INT64}
    model = graph(nodes, {"ids": ["N", 3]}, ["y"], weights={"w": weight(40, 10)}, kinds=kinds)
    module = module_of(model)
    batch = {"ids": torch.tensor([[1, 2, 2], [7, 2, 0]])}
    captured = capture_onnx(module, batch)
    (site,) = captured.sites.values()
    assert (site.kind, site.rows, site.columns, site.uses) == ("embedding", 40, 10, 2)
    found = observe(captured, module, [batch])["w"]
    counted = found.frequencies[[0, 1, 2, 7]].tolist()
    assert counted == [1, 1, 3, 1] and float(found.frequencies.sum()) == 6
    rows = module.w[batch["ids"]].reshape(-1, 10)
    assert torch.allclose(found.second[0], rows.t() @ rows, rtol=1e-4)


@pytest.mark.parametrize(
    ("net", "inputs"),
    [(Convolutions, torch.randn(4, 3, 8, 8)), (Recurrent, torch.randn(4, 7, 6))],
)
def test_moments_are_those_of_the_model_it_was_exported_from(net, inputs, tmp_path):
    torch.manual_seed(0)
    model = net().eval()
    exported = export_original(model, inputs, tmp_path / "m.onnx")
    read = read_onnx(exported.path)
    feed = {exported.inputs[0]: inputs.numpy()}
    module = OnnxModule(simplify(read.model, [feed]).model, file=read)
    batch = {exported.inputs[0]: inputs}
    ours = observe(capture_onnx(module, batch, smallest=30), module, [batch])
    theirs = observe(capture(model, inputs, smallest=30), model, [inputs])
    groups = [group for found in ours.values() for group in found.second]
    assert len(theirs) >= 2
    for name, found in theirs.items():  # the names are others, and directions are stacked
        for second in found.second:
            same = [group for group in groups if group.shape == second.shape]
            assert min(float((group - second).abs().max()) for group in same) < 1e-3, name


def branches() -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        made = [node("MatMul", f"x {name}", "h"), node("Relu", "h", "z")]
        made += [node("MatMul", "z w", "out")]
        info = [helper.make_tensor_value_info("out", 1, None)]
        return helper.make_graph(made, f"b{name}", [], info)

    chosen = node("If", "flag", "y", then_branch=branch("a"), else_branch=branch("b"))
    weights = {"a": weight(4, 80), "b": weight(4, 80, seed=1), "w": weight(80, 5)}
    kinds = {"flag": onnx.TensorProto.BOOL}
    return graph([chosen], {"x": ["N", 4], "flag": []}, ["y"], weights=weights, kinds=kinds)


def captured_branches() -> tuple[OnnxModule, Capture, dict[str, torch.Tensor]]:
    read = OnnxFile("m.onnx", ir.from_proto(branches()), True)
    feeds = [{"x": np.ones((1, 4), np.float32), "flag": np.array(flag)} for flag in (True, False)]
    module = OnnxModule(simplify(read.model, feeds).model, file=read)
    batch = {"x": torch.randn(6, 4), "flag": torch.tensor(True)}
    return module, capture_onnx(module, batch), batch


def test_weights_in_branches_are_seen_where_the_branch_is_taken():
    module, captured, batch = captured_branches()
    assert set(captured.sites) == {"a", "b", "w"}
    assert captured.warnings == (
        "b: in a branch that the first example does not take; give examples of every kind",
    )
    found = observe(captured, module, [batch])
    x = batch["x"]
    assert torch.allclose(found["a"].second[0], x.t() @ x, rtol=1e-4)
    hidden = (x @ module.a).relu()
    assert torch.allclose(found["w"].second[0], hidden.t() @ hidden, rtol=1e-3, atol=1e-3)
    assert found["b"].second is None
    other = {**batch, "flag": torch.tensor(False)}
    assert observe(captured, module, [batch, other])["b"].count == 6


def test_weights_in_loops_are_named_and_left_alone():
    made = [
        node("MatMul", "state w", "next"),
        node("Identity", "more", "go_on"),
    ]
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        made,
        "body",
        [info("step", 7, []), info("more", 9, []), info("state", 1, None)],
        [info("go_on", 9, []), info("next", 1, None)],
    )
    nodes = [node("MatMul", "x v", "h"), node("Loop", "count - h", "y", body=body)]
    weights = {"v": weight(4, 80), "w": weight(80, 80), "count": np.array(2, np.int64)}
    captured = capture_onnx(
        module_of(graph(nodes, {"x": ["N", 4]}, ["y"], weights=weights)), {"x": torch.ones(1, 4)}
    )
    assert list(captured.sites) == ["v"]
    assert "w: read inside a Loop in node_" in captured.warnings[0]


def test_a_graph_of_integers_has_nothing_to_change():
    codes = {"q": np.ones((4, 300), np.int8), "s": np.array(0.1, np.float32)}
    nodes = [node("DequantizeLinear", "q s", "w"), node("MatMul", "x w", "y")]
    model = module_of(graph(nodes, {"x": ["N", 4]}, ["y"], weights=codes))
    with pytest.raises(TaskError, match="no floating-point weights that can change"):
        capture_onnx(model, {"x": torch.ones(1, 4)})


def test_every_parameter_is_bound_where_it_is(tmp_path):
    module, _, _ = captured_branches()
    bound = bind_onnx(module, tmp_path / "m.onnx")
    assert bound.replaceable == {"a", "b", "w"} and bound.missing == ()
    uses = {binding.initializer: len(binding.uses) for binding in bound.found}
    assert uses == {"a": 1, "b": 1, "w": 2}
