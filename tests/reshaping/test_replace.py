"""The face: `lilliput.replace`, by technique and by rule."""

import pytest
import torch
from tests.techniques.shaped import Vision, made
from torch import nn

import lilliput
from lilliput.errors import PlanError, ShapeError, TaskError
from lilliput.model.hashes import state_hash


@pytest.fixture
def vision():
    return made(Vision)


def test_a_technique_by_its_name(vision):
    model, inputs, _ = vision
    found = lilliput.replace(model, inputs, by="depthwise", names="second", rank=2)
    assert found.second[0].weight.shape == (32, 1, 3, 3)


def test_a_rule_of_ones_own(vision):
    model, inputs, _ = vision
    before = state_hash(model)
    asked = []

    def rule(name, module):
        asked.append(name)
        return nn.ReLU() if isinstance(module, nn.GELU) else None

    found = lilliput.replaced(model, inputs, by=rule)
    assert {type(block.act) for block in found.model.blocks} == {nn.ReLU}
    assert "blocks.0.act, blocks.1.act, blocks.2.act replaced" in found.notes[0]
    assert found.checks == () and asked[0] == "stem" and "blocks.2.act" in asked
    assert state_hash(model) == before


def test_a_rule_that_changes_nothing_is_proved_equal(vision):
    model, inputs, _ = vision
    found = lilliput.replaced(
        model, inputs, by=lambda name, old: nn.Sequential(old) if name == "stem" else None
    )
    assert found.checks and all(check.equal for check in found.checks)
    assert torch.equal(found.model.stem[0].weight, model.stem.weight)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda name, module: None, ShapeError, "the rule replaces no module"),
        (lambda name, module: 3, ShapeError, "the rule returned int for stem, not a module"),
        (lambda name, module: 1 / 0, TaskError, "the rule on stem failed: ZeroDivisionError"),
        (
            lambda name, module: nn.Linear(32, 6) if name == "last" else None,
            ShapeError,
            "with last replaced the outputs on inputs of .* have other shapes",
        ),
    ],
)
def test_a_wrong_rule_is_refused_and_nothing_changes(vision, rule, error, message):
    model, inputs, _ = vision
    before = state_hash(model)
    with pytest.raises(error, match=message):
        lilliput.replace(model, inputs, by=rule)
    assert state_hash(model) == before


def test_unknown_names_are_refused(vision):
    model, inputs, _ = vision
    with pytest.raises(PlanError, match=r"unknown technique 'replace_nrom' .did you mean"):
        lilliput.replace(model, inputs, by="nrom")
    with pytest.raises(PlanError, match="a rule has no field 'rank'"):
        lilliput.replace(model, inputs, by=lambda name, module: None, rank=1)
