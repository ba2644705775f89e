"""A session that also puts out what the weights of a graph are applied to, in branches too."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnxruntime

from lilliput.runtime.onnx_graph import inner_graphs, parents
from lilliput.runtime.onnx_reads import Fetch, Tap
from lilliput.runtime.sessions import default_session, run_session

STEM = "lilliput_tap"


class Watch:
    """Runs a graph and returns inner values.

    Args:
        model: The graph; it is not changed.
        taps: What to return.
    """

    def __init__(self, model: ir.Model, taps: Mapping[str, Tap]) -> None:
        self._names: dict[Fetch, str] = {}
        self._constants: dict[Fetch, np.ndarray] = {}
        session = default_session(self._opened(model.clone(), taps))
        self._session: onnxruntime.InferenceSession = session

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[Fetch, np.ndarray]:
        """The fetched values of one call; what lies in a branch not taken is left out."""
        wanted = sorted({name for name in self._names.values() if name not in feed})
        answers = run_session(self._session, feed, names=wanted) if wanted else []
        values = {**feed, **dict(zip(wanted, answers, strict=True))}
        found = {fetch: values[name] for fetch, name in self._names.items()}
        return {f: v for f, v in found.items() if v.size} | self._constants

    def _opened(self, model: ir.Model, taps: Mapping[str, Tap]) -> bytes:
        nodes = {node.name: node for node in model.graph.all_nodes()}
        owners = parents(model)
        lifted: dict[tuple[ir.Value, int], ir.Value] = {}
        for fetch in dict.fromkeys(fetch for tap in taps.values() for fetch in tap.fetches):
            name, place, output = fetch
            value = (nodes[name].outputs if output else nodes[name].inputs)[place]
            if value is None:
                continue
            if value.const_value is not None:
                self._constants[fetch] = np.asarray(value.const_value.numpy())
                continue
            value.name = value.name or f"{STEM}_{len(self._names)}"
            key = value, id(nodes[name].graph)
            if key not in lifted:
                integers = nodes[name].op_type == "Gather"
                lifted[key] = _lifted(value, nodes[name].graph, owners, integers=integers)
            top = lifted[key]
            if top not in model.graph.outputs and not top.is_graph_input():
                model.graph.outputs.append(top)
            self._names[fetch] = top.name or ""
        return bytes(ir.to_proto(model).SerializeToString())


def tapped(model: ir.Model, taps: Mapping[str, Tap]) -> Watch:
    """A `Watch` of a graph."""
    return Watch(model, taps)


def _lifted(
    value: ir.Value, branch: object, owners: Mapping[int, ir.Node], *, integers: bool
) -> ir.Value:
    """The value itself, or an output of the If around it, empty where its branch is not taken."""
    if id(branch) not in owners:
        return value
    around = owners[id(branch)]
    kind = ir.DataType.INT64 if integers else ir.DataType.FLOAT
    stem = f"{value.name}_{STEM}_{len(around.outputs)}_{around.name}"
    for number, graph in enumerate(inner_graphs(around)):
        if graph is branch:
            node = ir.node("Cast", [value], {"to": kind})
        else:
            nothing = np.zeros(0, np.int64 if integers else np.float32)
            node = ir.node("Constant", [], {"value": ir.tensor(nothing)})
        node.outputs[0].name = f"{stem}_{number}"
        graph.append(node)
        graph.outputs.append(node.outputs[0])
    around.resize_outputs(len(around.outputs) + 1)
    around.outputs[-1].name = stem
    return _lifted(around.outputs[-1], around.graph, owners, integers=integers)
