"""What convolutions hand on, behind BatchNorm and rectifier, and who reads nothing else."""

from collections import Counter
from typing import Any

import torch
from torch import fx

from lilliput.model.capture import Capture

_aten = torch.ops.aten
BATCH_NORM = _aten.batch_norm.default
AT_ZERO = frozenset(
    {_aten.relu.default, _aten.relu_.default, _aten.relu6.default, _aten.relu6_.default}
)
WITH_ENDS = frozenset(
    {
        _aten.hardtanh.default,
        _aten.hardtanh_.default,
        _aten.clamp.default,
        _aten.clamp_.default,
        _aten.clip.default,
        _aten.clip_.default,
        _aten.clamp_min.default,
        _aten.clamp_min_.default,
    }
)
RECTIFIERS = AT_ZERO | WITH_ENDS


def handed_on(capture: Capture) -> dict[str, str]:
    """Where what convolutions hand on stands, behind BatchNorm and rectifier: node -> site."""
    nodes = _nodes(capture)
    found = {}
    for use in capture.uses if nodes else ():
        if use.operation == "conv":
            node = _behind(nodes[use.where], frozenset({BATCH_NORM}))
            found[_behind(node, RECTIFIERS).name] = use.site
    return found


def absorbed(capture: Capture) -> frozenset[str]:
    """Convolutions that alone read what another hands on, which could multiply its channels.

    Between them stands nothing, or a rectifier that cuts off at zero: where channels grow no larger
    than the largest one is, its upper end cuts off no more than before.
    """
    nodes, made = _nodes(capture), handed_on(capture)
    read = Counter(use.site for use in capture.uses)
    return frozenset(
        use.site
        for use in capture.uses
        if use.operation == "conv"
        and use.source in made
        and read[use.site] == read[made[use.source]] == 1
        and len(nodes[use.source].users) == 1
        and _cuts_at_zero(nodes[use.source])
    )


def _nodes(capture: Capture) -> dict[str, fx.Node]:
    if capture.program is None:
        return {}
    return {node.name: node for node in capture.program.graph.nodes}


def _behind(node: fx.Node, operators: frozenset[Any]) -> fx.Node:
    """The only reader of a node, if it is one of these operators; else the node itself."""
    after = next(iter(node.users), None)
    alone = len(node.users) == 1 and after is not None and after.target in operators
    return after if alone and after is not None else node


def _cuts_at_zero(node: fx.Node) -> bool:
    if node.target not in WITH_ENDS:
        return True
    return len(node.args) > 1 and bool(node.args[1] == 0)
