"""shorten_drop: the cheapest block goes first, measured; what cannot go is refused."""

import itertools

import pytest
import torch
from tests.techniques.shaped import Convolutional, Listener, Vision, made
from torch import nn

from lilliput.errors import ShapeError
from lilliput.model.hashes import state_hash
from lilliput.techniques import ShortenDrop

NAMES = ("blocks.0", "blocks.1", "blocks.2")


@pytest.fixture(scope="module")
def vision():
    return made(Vision)


def dropped(found):
    return {name for name in NAMES if not any(k.startswith(name) for k in found.model.state_dict())}


def error(model, names, batches):
    """Relative squared error of the model without some blocks, by hand."""
    shorter, _, _ = made(Vision)
    for name in names:
        shorter.blocks[int(name[-1])] = nn.Identity()
    with torch.no_grad():
        lost = [(shorter(x) - model(x)).square().sum() / model(x).square().sum() for x in batches]
    return float(sum(lost) / len(lost))


def test_the_block_that_costs_least_goes(vision):
    model, inputs, batches = vision
    found = ShortenDrop().change(model, inputs, batches=batches)
    costs = {name: error(model, [name], batches) for name in NAMES}
    best = min(costs, key=costs.get)
    assert dropped(found) == {best}
    assert f"without {best} the outputs diverge by {costs[best]:.3g}" in found.notes[0]


def test_the_second_is_measured_without_the_first(vision):
    model, inputs, batches = vision
    found = ShortenDrop(blocks=2).change(model, inputs, batches=batches)
    first = min(NAMES, key=lambda name: error(model, [name], batches))
    pairs = [pair for pair in itertools.combinations(NAMES, 2) if first in pair]
    assert dropped(found) == set(min(pairs, key=lambda pair: error(model, pair, batches)))


def test_a_share_of_the_named_blocks(vision):
    model, inputs, batches = vision
    half = ShortenDrop(remove=0.5).change(model, inputs, where=NAMES[:2], batches=batches)
    assert len(dropped(half)) == 1 and "blocks.2" not in dropped(half)
    part = ShortenDrop().change(model, inputs, where=("blocks.1.down",), batches=batches)
    assert part.how == "graph" and dropped(part) == set()


@pytest.mark.parametrize(
    ("settings", "where", "message"),
    [
        ({"blocks": 3}, (), "all 3 blocks were to go: at least one has to stay"),
        ({"blocks": 4}, (), "4 blocks were to go, 3 can: blocks.0, blocks.1, blocks.2"),
        ({"blocks": 2}, ("blocks.1", "blocks.1.out"), "some are parts of others"),
        ({}, ("blocks.1.ot",), r"no block 'blocks.1.ot' .did you mean blocks\.1\.out"),
    ],
)
def test_what_cannot_go_is_refused_and_nothing_changes(vision, settings, where, message):
    model, inputs, batches = vision
    before = state_hash(model)
    with pytest.raises(ShapeError, match=message):
        ShortenDrop(**settings).change(model, inputs, where=where, batches=batches)
    assert state_hash(model) == before


def test_a_model_without_blocks_or_with_one_is_refused():
    for build, message in ((Listener, "no block that can go"), (Convolutional, "only block")):
        model, inputs, batches = made(build)
        with pytest.raises(ShapeError, match=message):
            ShortenDrop().change(model, inputs, batches=batches)
