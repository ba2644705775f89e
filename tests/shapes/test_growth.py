"""Larger models answer as before, train, and run as ONNX files; what cannot is refused."""

import copy

import pytest
import torch
from tests.shapes.larger import FAMILIES, WORDS, Language, LookedUp, Patches, build_with, family
from torch import nn

import lilliput
from lilliput.batches import flatten_inputs
from lilliput.errors import PlanError, ShapeError
from lilliput.model.hashes import state_hash
from lilliput.rebuilding import apply_edits, edits_between
from lilliput.runtime.onnx_export import export_original
from lilliput.runtime.sessions import default_session
from lilliput.shapes.copies import Copies, Filling
from lilliput.shapes.widening import copied_units, widen
from lilliput.shapes.widths import shape_of

EXACT = 1e-5
DEEP = ["plain", "depthwise", "residual", "attributes", "norms before", "norms behind", "tied"]
LAYERED = {
    "upsampling": "mix",
    "lstm": "enter",
    "gru": "enter",
}  # without blocks: behind which layer


def check(model, found, inputs):
    """The same answers, one step of training, and an ONNX file that runs."""
    assert found.checks and all(check.difference <= EXACT for check in found.checks)
    with torch.no_grad():
        wanted, answer = model(inputs), found.model(inputs)
    assert float((answer - wanted).abs().max() / wanted.abs().max()) <= EXACT


def trains(model, inputs):
    model.train()
    before = state_hash(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model(inputs).square().mean().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    optimizer.step()
    assert state_hash(model) != before
    model.eval()


def runs(model, inputs, path):
    export_original(model, inputs, path)
    session = default_session(path)
    names = [one.name for one in session.get_inputs()]
    (answer,) = session.run(None, dict(zip(names, flatten_inputs(inputs), strict=True)))
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(answer), model(inputs), atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_wider_model_answers_the_same_trains_and_runs(name, tmp_path):
    model, inputs = family(name)
    before = state_hash(model)
    found = lilliput.grown(model, inputs, width=1.5, noise=0.3)
    check(model, found, inputs)
    assert state_hash(model) == before and found.model is not model
    size = [sum(p.numel() for p in one.parameters()) for one in (model, found.model)]
    assert size[1] > 1.2 * size[0]
    runs(found.model, inputs, tmp_path / "model.onnx")
    trains(found.model, inputs)


@pytest.mark.parametrize("name", DEEP)
def test_a_deeper_model_answers_the_same_trains_and_runs(name, tmp_path):
    model, inputs = family(name)
    before = state_hash(model)
    found = lilliput.grown(model, inputs, depth=2)
    check(model, found, inputs)
    assert state_hash(model) == before and found.how == "class"
    assert len(list(found.model.parameters())) > len(list(model.parameters()))
    runs(found.model, inputs, tmp_path / "model.onnx")
    trains(found.model, inputs)


@pytest.mark.parametrize("name", LAYERED)
def test_without_blocks_an_identity_that_can_learn_is_put_behind_a_layer(name, tmp_path):
    model, inputs = family(name)
    before = state_hash(model)
    found = lilliput.grown(model, inputs, depth=1)
    check(model, found, inputs)
    layer, slope, identity = found.model.get_submodule(LAYERED[name])
    assert torch.equal(layer.weight, model.get_submodule(LAYERED[name]).weight)
    assert f"behind {LAYERED[name]}: a PReLU whose slope is 1" in found.notes[0]
    runs(found.model, inputs, tmp_path / "model.onnx")
    for _ in range(2):  # behind a ReLU the slope is of no account before the identity has moved
        trains(found.model, inputs)
    assert identity.weight.grad.any() and slope.weight.grad.any()
    assert state_hash(model) == before


def test_several_layers_go_behind_the_same_one_and_reload():
    model, inputs = family("lstm")
    found = lilliput.grown(model, inputs, depth=2, blocks=["enter"])
    check(model, found, inputs)
    assert len(found.model.enter) == 5
    fresh = copy.deepcopy(model)
    apply_edits(fresh, edits_between(model, found.model), state=found.model.state_dict())
    fresh.load_state_dict(found.model.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(inputs), found.model(inputs))


def test_what_is_put_behind_a_convolution_sees_nothing_more():
    model = nn.Sequential(nn.Conv1d(2, 4, 3, padding=2), nn.Tanh(), nn.Conv1d(4, 2, 1)).eval()
    inputs = torch.randn(2, 2, 9)
    found = lilliput.grown(model, inputs, depth=1)
    check(model, found, inputs)
    assert found.model[0][2].kernel_size == (1,)


def test_a_spread_keeps_only_where_it_divides_by_the_number_of_units():
    class Spread(nn.Module):
        def __init__(self, correction):
            super().__init__()
            self.enter, self.correction = nn.Linear(4, 6), correction

        def forward(self, x):
            return self.enter(x).std(-1, correction=self.correction)

    inputs = torch.randn(3, 4)
    model = Spread(0).eval()
    check(model, lilliput.grown(model, inputs, width=2.0), inputs)
    with pytest.raises(ShapeError, match="no width can be made 2 times as wide"):
        lilliput.grow(Spread(1).eval(), inputs, width=2.0)


@pytest.mark.parametrize("name", ["depthwise", "lstm", "norms before", "upsampling"])
@pytest.mark.parametrize("fill", ["copy", "zero"])
def test_a_whole_factor_takes_norms_along(name, fill):
    model, inputs = family(name)
    found = lilliput.grown(model, inputs, width=2.0, fill=fill, noise=0.2)
    check(model, found, inputs)
    assert found.notes == ()
    shape, wider = shape_of(model, inputs), shape_of(found.model, inputs)
    free = [width for width in shape.widths.values() if width.free]
    assert sum(w.units for w in wider.widths.values() if w.free) == 2 * sum(w.units for w in free)


def test_wider_deeper_more_words_at_once(tmp_path):
    model, inputs = family("tied")
    found = lilliput.grown(model, inputs, width=1.5, depth=1, vocabulary=4)
    with torch.no_grad():
        wanted, answer = model(inputs), found.model(inputs)
    assert answer.shape == (2, 6, 24)
    assert float((answer[..., :20] - wanted).abs().max() / wanted.abs().max()) <= EXACT
    runs(found.model, inputs, tmp_path / "model.onnx")


def test_noise_makes_copies_differ_where_they_are_read_and_keeps_their_sum():
    model, inputs = family("plain")
    shape = shape_of(model, inputs)
    units = copied_units(8, 2.0, seed=0)
    weights = Copies(shape, {"0": units}, Filling(noise=0.5)).weights(model.state_dict())
    read = weights["3.weight"]
    assert not torch.allclose(read[:, ::2], read[:, 1::2], atol=1e-3)
    assert torch.allclose(read[:, ::2] + read[:, 1::2], model[3].weight, atol=1e-6)
    assert torch.equal(weights["0.weight"][::2], weights["0.weight"][1::2])
    plain = Copies(shape, {"0": units}).weights(model.state_dict())["3.weight"]
    assert torch.equal(plain[:, ::2], plain[:, 1::2])


def test_zero_filled_units_are_not_read_and_what_makes_them_may_differ():
    model, inputs = family("plain")
    shape = shape_of(model, inputs)
    filling = Filling("zero", noise=0.5)
    copies = Copies(shape, {"0": copied_units(8, 2.0, seed=0)}, filling)
    weights = copies.weights(model.state_dict())
    assert torch.equal(weights["3.weight"][:, ::2], model[3].weight)
    assert not weights["3.weight"][:, 1::2].any()
    assert torch.equal(weights["0.weight"][::2], model[0].weight)
    assert not torch.allclose(weights["0.weight"][1::2], model[0].weight, atol=1e-3)


def test_copied_units_are_all_old_ones_evenly_with_a_drawn_rest():
    units = copied_units(8, 1.5, seed=3)
    counts = torch.bincount(torch.from_numpy(units), minlength=8)
    assert len(units) == 12 and set(counts.tolist()) == {1, 2}
    assert copied_units(8, 1.5, seed=3).tolist() == units.tolist()
    assert copied_units(8, 1.5, seed=4).tolist() != units.tolist()
    assert copied_units(8, 2.5, seed=0).tolist() == sorted(copied_units(8, 2.5, seed=0))
    assert len(copied_units(4, 1.01, seed=0)) == 5


def test_the_same_settings_give_the_same_weights():
    model, inputs = family("grouped")
    one, two = (lilliput.grow(model, inputs, width=1.5, noise=0.3, seed=5) for _ in range(2))
    assert state_hash(one) == state_hash(two)
    assert state_hash(one) != state_hash(lilliput.grow(model, inputs, width=1.5, noise=0.3))


def test_more_classes_keep_the_old_scores(tmp_path):
    model, inputs = family("depthwise")
    found = lilliput.grown(model, inputs, classes=3)
    with torch.no_grad():
        wanted, answer = model(inputs), found.model(inputs)
    assert answer.shape == (2, 7) and found.model.last.out_features == 7
    assert torch.allclose(answer[:, :4], wanted, atol=1e-6)
    assert torch.allclose(answer[:, 4:], wanted.mean(1, keepdim=True).expand(-1, 3), atol=1e-5)
    runs(found.model, inputs, tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["norms before", "tied"])
def test_more_words_keep_the_scores_of_the_old_ones(name, tmp_path):
    model, inputs = family(name)
    found = lilliput.grown(model, inputs, vocabulary=5)
    with torch.no_grad():
        wanted, answer = model(inputs), found.model(inputs)
        new = found.model(inputs.clamp(max=0) + 24)
    assert answer.shape == (2, 6, 25) and torch.isfinite(new).all()
    assert torch.allclose(answer[..., :20], wanted, atol=1e-6)
    tied = found.model.scores.weight is found.model.words.weight
    assert tied == (name == "tied") and found.model.words.num_embeddings == 25
    runs(found.model, inputs, tmp_path / "model.onnx")


def test_given_rows_become_the_new_words():
    model, inputs = family("norms before")
    rows = torch.randn(2, 16)
    larger = lilliput.grow(model, inputs, vocabulary=rows)
    assert torch.equal(larger.words.weight[20:], rows)
    with pytest.raises(ShapeError, match=r"rows of words.weight are \(n, 16\), got \(2, 3\)"):
        lilliput.grow(model, inputs, vocabulary=torch.randn(2, 3))


@pytest.mark.parametrize(("extra", "factor", "rows"), [(1, 2.0, 49), (0, 1.5, 24)])
def test_position_tables_are_interpolated_and_nothing_is_claimed(extra, factor, rows):
    model, inputs = build_with(lambda: Patches(extra), (2, 3, 16, 12))
    found = lilliput.grown(model, inputs, resolution=factor)
    assert found.model.positions.shape == (1, rows, 12)
    assert torch.equal(found.model.positions[:, :extra], model.positions[:, :extra])
    assert found.checks == () and "cannot be proved" in found.notes[1]
    sides = (round(16 * factor), round(12 * factor))
    assert found.model(torch.randn(2, 3, *sides)).shape == (2, 3)


@pytest.mark.parametrize("numbers", ["kept", "passing", "counted"])
def test_positions_that_are_looked_up_are_interpolated_alike(numbers):
    inputs = torch.randn(2, 3, 16, 12)
    looked, _ = build_with(lambda: LookedUp(numbers), inputs.shape)
    added, _ = build_with(lambda: Patches(0), inputs.shape)
    with torch.no_grad():
        looked.load_state_dict(
            {"positions.weight": added.positions[0]}
            | {name: one for name, one in added.state_dict().items() if name[:2] in ("cu", "la")},
            strict=False,
        )
    found = lilliput.grown(looked, inputs, resolution=2.0)
    wanted = lilliput.grow(added, inputs, resolution=2.0)
    assert found.notes[0] == "interpolated: positions.weight"
    assert torch.equal(found.model.positions.weight, wanted.positions[0])
    assert found.model.positions.num_embeddings == 48
    larger = torch.randn(2, 3, 32, 24)
    with torch.no_grad():
        assert torch.allclose(found.model(larger), wanted(larger), atol=1e-6)
    edits = edits_between(looked, found.model)
    if numbers == "passing":  # what is not saved cannot be put into a fresh instance
        assert edits is None
        return
    fresh = LookedUp(numbers)
    apply_edits(fresh, edits, state=found.model.state_dict())
    fresh.load_state_dict(found.model.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh.eval()(larger), found.model(larger))


@pytest.mark.parametrize(
    ("numbers", "rows", "message"),
    [
        ("written", 12, r"with positions.weight interpolated, .*larger.py:\d+ in forward"),
        ("kept", 17, "positions.weight has 17 rows, no grid of patches of 16 x 12"),
    ],
)
def test_positions_that_cannot_be_interpolated_are_named(numbers, rows, message):
    model, inputs = build_with(lambda: LookedUp(numbers, rows), (2, 3, 16, 12))
    with pytest.raises(ShapeError, match=message):
        lilliput.grow(model, inputs, resolution=2.0)


def test_an_even_table_stays_even_when_it_is_interpolated():
    model, inputs = build_with(Patches, (2, 3, 16, 12))
    with torch.no_grad():
        model.positions[:, 1:] = torch.arange(12.0)
    larger = lilliput.grow(model, inputs, resolution=2.0)
    assert torch.allclose(larger.positions[:, 1:], torch.arange(12.0).expand(1, 48, 12), atol=1e-5)


def test_a_convolutional_network_takes_larger_images_as_it_is():
    model, inputs = family("attributes")
    found = lilliput.grown(model, inputs, resolution=2.0)
    assert state_hash(found.model) == state_hash(model)
    assert found.notes[0].startswith("the model takes larger images as it is")


@pytest.mark.parametrize(
    ("name", "growth", "error", "message"),
    [
        ("plain", {"width": 1.0}, PlanError, r"factor = 1.0.*greater than 1"),
        ("plain", {"width": 0.5}, PlanError, r"factor = 0.5.*greater than 1"),
        ("plain", {"width": float("nan")}, PlanError, "factor = nan"),
        ("plain", {"depth": 0}, PlanError, r"blocks = 0.*greater than or equal to 1"),
        ("plain", {"widht": 2.0}, PlanError, "did you mean width"),
        ("plain", {}, PlanError, "nothing is to grow"),
        ("plain", {"noise": 0.1}, PlanError, "nothing is to grow"),
        ("plain", {"width": 2.0, "widths": "00"}, ShapeError, "did you mean 0"),
        ("plain", {"width": 2.0, "widths": ["6"]}, ShapeError, "it is the model's output"),
        ("plain", {"vocabulary": 3}, ShapeError, "no embedding that its inputs are looked up in"),
        ("plain", {"resolution": 2.0}, ShapeError, "no position table"),
        ("lstm", {"resolution": 2.0}, ShapeError, "the inputs are no images"),
        ("lstm", {"depth": 1, "blocks": "entr"}, ShapeError, "no block 'entr'.*did you mean enter"),
        ("depthwise", {"depth": 1, "blocks": "blocks.7"}, ShapeError, r"did you mean blocks\.[01]"),
        ("norms before", {"width": 1.5, "widths": "words"}, ShapeError, "only a whole factor"),
        ("tied", {"width": 2.0, "widths": "words"}, ShapeError, "cannot be shared out"),
    ],
)
def test_what_cannot_grow_is_refused_and_nothing_changes(name, growth, error, message):
    model, inputs = family(name)
    before = state_hash(model)
    with pytest.raises(error, match=message):
        lilliput.grow(model, inputs, **growth)
    assert state_hash(model) == before


def test_a_softmax_over_the_classes_is_refused():
    model, inputs = family("depthwise")
    with pytest.raises(ShapeError, match="the old answers change"):
        lilliput.grow(nn.Sequential(model, nn.Softmax(-1)), inputs, classes=1)


def test_what_cannot_be_exact_is_done_when_asked_for_and_says_by_how_much():
    model, inputs = family("norms before")
    found = lilliput.grown(model, inputs, width=1.5, widths="words", exact=False)
    assert found.model.words.embedding_dim == 24
    assert found.notes[0].startswith("it answers otherwise than the original, by ")
    assert any("only a whole factor keeps its mean" in note for note in found.notes[1:])
    by_itself = lilliput.grown(model, inputs, width=1.5)
    assert by_itself.notes == ("words stays as it is: wider, it would change the answers",)


@pytest.mark.parametrize("block", ["layers.1", "layers.2"])
def test_a_copy_of_a_layer_with_shared_weights_has_its_own(block):
    model, inputs = build_with(Language, WORDS)
    model.layers[1].down = model.layers[2].down
    found = lilliput.grown(model, inputs, depth=1, blocks=block)
    check(model, found, inputs)
    copied = found.model.layers[int(block[-1]) + 1]
    assert not copied.down.weight.any() and model.layers[2].down.weight.any()


def test_widening_takes_only_copies_of_all_units():
    model, inputs = family("plain")
    with pytest.raises(ShapeError, match="keeps all 8 units of 0"):
        widen(model, shape_of(model, inputs), units={"0": [0, 0, 1]}, inputs=inputs)
