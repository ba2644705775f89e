"""Every network of the zoo wider and deeper: the same answers, or refused with the reason."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import lilliput
from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from zoo.examined import ZOO, distance, outputs

EXACT = 1e-5  # of the largest output
GROWTHS: dict[str, dict[str, Any]] = {"wider": {"width": 1.5}, "deeper": {"depth": 1}}
REFUSED = {
    ("spatial gate", "wider"): "no width can be made 1.5 times as wide",  # its only one is normed
    ("norm by hand", "wider"): "no width can be made 1.5 times as wide",
    ("cosine", "wider"): "no width can be made 1.5 times as wide",
    ("plain parameters", "deeper"): "the model has no block and no layer",
}


def grown(name: str, how: str) -> str:
    """Why a network was not grown; empty if it was. What is promised of it is asserted."""
    net = ZOO[name]
    model, inputs = net.model(), net.example()
    before = state_hash(model)
    try:
        found = lilliput.grown(model, inputs, **GROWTHS[how])
    except ShapeError as error:
        assert state_hash(model) == before
        return str(error)
    assert state_hash(model) == before
    assert len(found.checks) >= 2 and all(check.difference <= EXACT for check in found.checks)
    for batch in (inputs, longer(inputs)):
        assert distance(outputs(found.model, batch), outputs(model, batch)) <= EXACT
    sizes = [sum(one.numel() for one in each.parameters()) for each in (model, found.model)]
    assert sizes[1] > sizes[0]
    return ""


def longer(inputs: Any) -> Any:
    """A batch with one example more."""
    return pytree.tree_map_only(Tensor, lambda one: torch.cat([one, one[:1].flip(-1)]), inputs)


@pytest.mark.parametrize("how", GROWTHS)
@pytest.mark.parametrize("name", ZOO)
def test_it_answers_as_before_or_is_refused_with_the_reason(name, how):
    found, known = grown(name, how), REFUSED.get((name, how), "")
    assert found.startswith(known) if known else not found


def test_few_are_refused():
    assert len(REFUSED) <= 0.03 * len(ZOO) * len(GROWTHS)


@pytest.mark.parametrize("name", ["spatial gate", "norm by hand"])
def test_a_whole_factor_does_where_another_is_refused(name):
    model, inputs = ZOO[name].model(), ZOO[name].example()
    wider = lilliput.grow(model, inputs, width=2.0)
    assert distance(outputs(wider, inputs), outputs(model, inputs)) <= EXACT
