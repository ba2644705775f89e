import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

from graphs import graph, node, weight
from lilliput.runtime import onnx_simplify
from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_simplify import simplify

X = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
IMAGE = np.random.default_rng(1).standard_normal((2, 4, 6, 6)).astype(np.float32)


def norms(channels: int) -> dict[str, np.ndarray]:
    names = ("gamma", "beta", "mean")
    found = {name: weight(channels, seed=number) for number, name in enumerate(names, 5)}
    return {**found, "variance": np.abs(weight(channels, seed=9)) + 0.5}


NORM = "gamma beta mean variance"


def run(model: ir.Model, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, feed)


def simplified(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> tuple[list[str], ir.Model]:
    """Operators that are left, and the graph; its answers were compared anew."""
    before = ir.from_proto(model)
    done = simplify(before, [feed])
    assert done.undone == ()
    for old, new in zip(run(before, feed), run(done.model, feed), strict=True):
        assert np.abs(old - new).max() <= 1e-5 * np.abs(old).max()
        assert np.abs(old - new).max() <= done.largest_difference
    return [found.op_type for found in done.model.graph.all_nodes()], done.model


def test_identities_and_dropout_go():
    nodes = [
        node("Identity", "w", "w2"),
        node("Identity", "x", "x2"),
        node("MatMul", "x2 w2", "h"),
        node("Dropout", "h", "h2"),
        node("Relu", "h2", "h3"),
        node("Identity", "h3", "y"),
    ]
    model = graph(nodes, {"x": ["N", 4]}, ["y"], weights={"w": weight(4, 3)})
    left, _ = simplified(model, {"x": X})
    assert left == ["MatMul", "Relu"]


@pytest.mark.parametrize(
    ("layer", "shape", "feed"),
    [
        (node("Conv", "x w", "h"), (5, 4, 3, 3), IMAGE),
        (node("Conv", "x w b", "h", group=2), (5 + 1, 2, 3, 3), IMAGE),
        (node("ConvTranspose", "x w", "h", strides=[2, 2]), (4, 5, 2, 2), IMAGE),
        (node("Gemm", "x w b", "h", transB=1), (5, 4), X),
        (node("Gemm", "x w", "h"), (4, 5), X),
        (node("MatMul", "x w", "h"), (4, 5), X),
    ],
    ids=["conv", "grouped conv", "transposed conv", "gemm turned", "gemm", "matmul"],
)
def test_batch_norms_are_folded(layer, shape, feed):
    channels = 6 if "group" in str(layer) else 5
    weights = {"w": weight(*shape), "b": weight(channels, seed=2), **norms(channels)}
    nodes = [layer, node("BatchNormalization", f"h {NORM}", "y", epsilon=1e-3)]
    sizes = ["N", 4, 6, 6] if feed.ndim == 4 else ["N", 4]
    left, _ = simplified(graph(nodes, {"x": sizes}, ["y"], weights=weights), {"x": feed})
    assert "BatchNormalization" not in left


def test_a_norm_whose_layer_others_read_stays():
    nodes = [
        node("MatMul", "x w", "h"),
        node("BatchNormalization", f"h {NORM}", "n"),
        node("Add", "h n", "y"),
    ]
    weights = {"w": weight(4, 5), **norms(5)}
    left, _ = simplified(graph(nodes, {"x": ["N", 4]}, ["y"], weights=weights), {"x": X})
    assert left == ["MatMul", "BatchNormalization", "Add"]


def test_what_depends_on_constants_only_is_computed_unless_it_grows():
    nodes = [
        node("Transpose", "w", "t", perm=[1, 0]),
        node("Mul", "t two", "t2"),
        node("MatMul", "x t2", "h"),
        node("Expand", "one shape", "wide"),
        node("ReduceSum", "h", "total", keepdims=0),
        node("Mul", "wide total", "y"),
    ]
    weights = {
        "w": weight(3, 4),
        "two": np.array(2, np.float32),
        "one": np.ones(1, np.float32),
        "shape": np.array([200_000], np.int64),
    }
    left, model = simplified(graph(nodes, {"x": ["N", 4]}, ["y"], weights=weights), {"x": X})
    assert sorted(left) == ["Expand", "MatMul", "Mul", "ReduceSum"]
    assert sum(array_of(v).nbytes for v in model.graph.initializers.values()) < 100


def test_constants_become_weights_and_a_branch_that_is_known_is_taken():
    def branch(sign: float) -> onnx.GraphProto:
        value = helper.make_tensor("value", 1, [4, 3], (sign * weight(4, 3)).reshape(-1))
        nodes = [
            helper.make_node("Constant", [], ["c"], value=value),
            node("MatMul", "x c", "z"),
        ]
        return helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("z", 1, None)])

    chosen = node("If", "flag", "y", then_branch=branch(1.0), else_branch=branch(-1.0))
    model = graph([chosen], {"x": ["N", 4]}, ["y"], weights={"flag": np.array(False)})
    left, found = simplified(model, {"x": X})
    assert left == ["MatMul"]
    (kept,) = found.graph.initializers.values()
    assert np.array_equal(array_of(kept), -weight(4, 3))


def test_equal_weights_are_stored_once_and_unread_ones_and_nodes_go():
    nodes = [
        node("MatMul", "x a", "h"),
        node("MatMul", "h b", "y"),
        node("MatMul", "x c", "nobody"),
    ]
    weights = {"a": weight(4, 4), "b": weight(4, 4), "c": weight(4, 9), "d": weight(5)}
    left, found = simplified(graph(nodes, {"x": ["N", 4]}, ["y"], weights=weights), {"x": X})
    assert left == ["MatMul", "MatMul"]
    assert list(found.graph.initializers) == ["a"]


def test_an_old_operator_set_is_made_newer_and_the_files_own_words_stay():
    model = graph([node("MatMul", "x w", "y")], {"x": ["N", 4]}, ["y"], weights={"w": weight(4, 3)})
    model.opset_import[0].version = 11
    entry = model.metadata_props.add()
    entry.key, entry.value = "labels", "a b c"
    _, found = simplified(model, {"x": X})
    assert found.graph.opset_imports[""] == 13
    assert found.metadata_props["labels"] == "a b c"


def test_half_precision_weights_are_not_stored_as_floats():
    nodes = [node("Cast", "w", "v", to=1), node("MatMul", "x v", "y")]
    weights = {"w": weight(4, 600, kind="float16")}
    left, found = simplified(graph(nodes, {"x": ["N", 4]}, ["y"], weights=weights), {"x": X})
    assert left == ["Cast", "MatMul"]
    assert array_of(found.graph.initializers["w"]).dtype == np.float16


def spoil(model: ir.Model) -> ir.Model:
    value = model.graph.initializers["w"]
    value.const_value = ir.tensor(array_of(value) * np.float32(1.01), name="w")
    return model


def fail(model: ir.Model) -> ir.Model:
    raise ValueError("no such luck")


@pytest.mark.parametrize("edit", [spoil, fail])
def test_an_edit_that_changes_answers_or_fails_is_undone(monkeypatch, edit):
    monkeypatch.setattr(onnx_simplify, "EDITS", (*onnx_simplify.EDITS, ("spoilt", edit)))
    nodes = [node("Identity", "x", "x2"), node("MatMul", "x2 w", "y")]
    model = ir.from_proto(graph(nodes, {"x": ["N", 4]}, ["y"], weights={"w": weight(4, 3)}))
    done = simplify(model, [{"x": X}])
    assert done.undone == ("spoilt",)
    assert done.removed == {"identities and dropout removed": 1}
    assert np.array_equal(run(done.model, {"x": X})[0], run(model, {"x": X})[0])
    assert len(list(model.graph.all_nodes())) == 2  # the one that was given is as it was
