"""What every technique that changes a shape promises, held over THE TABLE itself."""

import tomllib
from functools import cache

import pytest
import torch
from tests.techniques.shaped import MODELS, Encoder, Vision, made, models_of

from lilliput.batches import flatten_inputs
from lilliput.errors import PlanError, ShapeError, TaskError
from lilliput.model.hashes import state_hash
from lilliput.plans import plan_from_toml, plan_to_toml
from lilliput.records import Plan, Step
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.sessions import default_session
from lilliput.shapes.widths import shape_of
from lilliput.techniques import (
    STRUCTURAL,
    TABLE,
    GrowDepth,
    GrowResolution,
    GrowWidth,
    QuantizeRound,
    structural_from_step,
)

KINDS = [kind for kind in TABLE if kind.family in STRUCTURAL]
NARROWING = [kind for kind in KINDS if kind.family == "narrow"]
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
narrowing = pytest.mark.parametrize("kind", NARROWING, ids=lambda kind: kind.name)
models = pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
pairs = pytest.mark.parametrize(
    ("kind", "build"),
    [
        pytest.param(kind, build, id=f"{kind.name}-{build.__name__}")
        for kind in KINDS
        for build in models_of(kind)
    ],
)
MISSPELT = {
    "grow_classes": "lasst",
    "grow_depth": "blocks.11",
    "grow_vocabulary": "wordz",
    "grow_width": "expannd",
    "narrow": "expannd",
    "shorten": "blocks.11",
    "replace_activation": "blocks.1.akt",
    "replace_depthwise": "sten",
    "replace_key_value_groups": "blocks.11",
    "replace_norm": "blocks.1.nrom",
    "replace_stack": "sten",
}


@cache
def changed(kind, build, *, where=(), **settings):
    """What no test changes is made once."""
    model, inputs, batches = made(build)
    return kind(**settings).change(model, inputs, where=where, batches=batches)


@cache
def free(build):
    model, inputs, _ = made(build)
    return [width for width in shape_of(model, inputs).widths.values() if width.free]


@pairs
def test_the_model_given_stays_as_it_was_and_the_proof_holds(kind, build):
    model, inputs, batches = made(build)
    before = state_hash(model)
    found = kind().change(model, inputs, batches=batches)
    assert state_hash(model) == before
    assert found.checks and all(check.equal for check in found.checks)
    assert found.model.training is model.training


@pairs
def test_the_same_weights_twice_and_all_finite(kind, build):
    one, two = changed(kind, build).model, changed.__wrapped__(kind, build).model
    assert state_hash(one) == state_hash(two)
    assert all(torch.isfinite(tensor).all() for tensor in one.state_dict().values())


@pairs
def test_the_result_is_exported_and_answers_the_same(kind, build, tmp_path):
    _, inputs, _ = made(build)
    model = changed(kind, build).model
    export_original(model, inputs, tmp_path / "model.onnx")
    session = default_session(tmp_path / "model.onnx")
    names = [one.name for one in session.get_inputs()]
    (answer,) = session.run(None, dict(zip(names, flatten_inputs(inputs), strict=True)))
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(answer), model(inputs), atol=1e-4)


@every
def test_a_plan_brings_it_back(kind):
    step = kind().step_of(("up",))
    text = plan_to_toml(Plan(model_hash="0", steps=(step,)))
    assert set(tomllib.loads(text)["steps"][0].get("settings", {})) <= set(kind.model_fields)
    (back,) = plan_from_toml(text).steps
    assert structural_from_step(back) == kind()


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if {kind.name, kind.family} & set(MISSPELT)]
)
def test_what_does_not_exist_is_refused_with_the_nearest(kind):
    name = MISSPELT.get(kind.name) or MISSPELT[kind.family]
    with pytest.raises(ShapeError, match=rf"{name}.*did you mean "):
        changed(kind, models_of(kind)[0], where=(name,))


@every
def test_calibration_without_examples_is_refused(kind):
    model, inputs, _ = made(models_of(kind)[0])
    with pytest.raises(TaskError, match="no calibration examples"):
        kind().change(model, inputs, batches=[])


def test_only_what_changes_a_shape_is_structural():
    with pytest.raises(PlanError, match="quantize_round does not change the model's shape"):
        structural_from_step(QuantizeRound().step_of(("a",)))
    with pytest.raises(PlanError, match="unknown technique"):
        structural_from_step(Step(technique="narrow_magic", where=()))


@narrowing
@models
@pytest.mark.parametrize(("remove", "multiple"), [(0.25, 1), (0.5, 8)])
def test_the_amount_asked_for_is_the_amount_got(kind, build, remove, multiple):
    settings = {"remove": remove, "multiple": multiple}
    default = {name for name in settings if settings[name] == kind.model_fields[name].default}
    found = changed(kind, build, **{n: v for n, v in settings.items() if n not in default})
    assert {width.name for width in free(build)} == set(found.kept.units)
    for width in free(build):
        kept = len(found.kept.units[width.name])
        if multiple == 1:
            assert kept == int(width.units * (1 - remove) + 0.5)
        elif width.kind != "heads" and width.units >= 16:
            assert kept % 8 == 0 and abs(kept - width.units / 2) <= 4


@narrowing
@models
def test_all_widths_together_lose_the_share(kind, build):
    found = changed(kind, build, remove=0.5, multiple=1, scope="global")
    kept = sum(len(units) for units in found.kept.units.values())
    total = sum(width.units for width in free(build))
    assert abs(kept - total / 2) <= len(found.kept.units)
    assert min(len(units) for units in found.kept.units.values()) >= 1


@narrowing
def test_widths_that_are_not_named_keep_their_sizes(kind):
    model = made(Encoder)[0]
    found = changed(kind, Encoder, where=("up",))
    before, after = model.state_dict(), found.model.state_dict()
    other = {name for name in before if before[name].shape != after[name].shape}
    assert other == {"up.weight", "up.bias", "down.weight"}
    untouched = [name for name in before if name.partition(".")[0] not in ("up", "down")]
    assert all(torch.equal(before[name], after[name]) for name in untouched)


@narrowing
def test_a_frozen_width_is_refused_with_the_reason(kind):
    with pytest.raises(ShapeError, match="last cannot be narrowed: it is the model's output"):
        changed(kind, Encoder, where=("last",))


@pytest.mark.parametrize(
    ("kind", "settings", "size"),
    [
        (GrowWidth, {"factor": 1.5, "exact": False}, (1.2, 2.5)),
        (GrowWidth, {"factor": 2.0}, (2.0, 4.1)),
        (GrowDepth, {"blocks": 3}, (1.5, 2.0)),
    ],
)
def test_growth_grows_by_what_was_asked(kind, settings, size):
    model = made(Vision)[0]
    found = changed(kind, Vision, **settings)
    count = [sum(one.numel() for one in each.parameters()) for each in (model, found.model)]
    assert size[0] < count[1] / count[0] < size[1]
    if kind is GrowWidth:
        for name, units in found.kept.units.items():
            before = shape_of(model, made(Vision)[1]).widths[name].units
            assert len(units) == round(before * settings["factor"])
    else:
        assert len(found.model.blocks) == 6


def test_widths_that_are_not_named_do_not_grow():
    model = made(Encoder)[0]
    found = changed(GrowWidth, Encoder, where=("up",))
    before, after = model.state_dict(), found.model.state_dict()
    other = {name for name in before if before[name].shape != after[name].shape}
    assert other == {"up.weight", "up.bias", "down.weight"}


def test_the_resolution_is_that_of_the_whole_model():
    with pytest.raises(ShapeError, match=r"the whole model's, not that of stem"):
        changed(GrowResolution, Vision, where=("stem",))
