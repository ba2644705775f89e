"""What every augmentation promises, held over the table: a new row is tested at once."""

import json
import tomllib

import pytest
import torch
from pydantic import ValidationError

from lilliput.errors import PlanError, TaskError
from lilliput.learning.augmenting.input_forms import parts
from lilliput.learning.augmenting.policy import AUGMENTATIONS, Policy

pytestmark = pytest.mark.parametrize("kind", AUGMENTATIONS, ids=lambda kind: kind.name)

EXAMPLES = 12


def batches(kind):
    """Inputs of every form and type that an augmentation takes."""
    draw = torch.Generator().manual_seed(5)

    def floats(*shape):
        return torch.rand(EXAMPLES, *shape, generator=draw)

    colour = 40 * floats(3, 17, 20) - 13
    tokens = torch.randint(3, 90, (EXAMPLES, 9), generator=draw)
    mask = (torch.arange(9) < torch.randint(1, 10, (EXAMPLES, 1), generator=draw)).long()
    images = [
        floats(1, 12, 12),
        colour,
        (255 * floats(3, 8, 8)).byte(),
        floats(1, 9, 9).double(),
        floats(1, 8, 8).half(),
        torch.full((EXAMPLES, 1, 8, 8), 0.25),
        {"pixels": colour, "kind": torch.arange(EXAMPLES)},
        (colour, torch.arange(EXAMPLES)),
    ]
    sounds = [floats(2, 30)[:, 0] - 0.5, floats(1, 30) - 0.5, {"wave": floats(25)}]
    spectrograms = [floats(11, 30), floats(1, 11, 30)]
    mask[0] = 1
    text = {"input_ids": tokens * mask, "attention_mask": mask, "token_type_ids": 0 * mask}
    every = {
        "images": images[:7] if kind.mixes else images,
        "audio": sounds,
        "text": [text, (tokens * mask, mask)],
        "numbers": [images[0], images[1], sounds[0], sounds[1]],
    }[kind.form]
    if kind.name == "mask_time":
        return sounds + spectrograms
    if kind.name == "mask_frequency":
        return spectrograms
    return [each for each in every if not (kind.mixes and isinstance(each, dict | tuple))]


WRONG = {
    "images": torch.zeros(4, 9, dtype=torch.int64),
    "audio": torch.zeros(4, 9, dtype=torch.int64),
    "text": torch.zeros(4, 3, 8, 8),
    "numbers": {"input_ids": torch.zeros(4, 9, dtype=torch.int64)},
}


def run(kind, inputs, seed=3, targets=None):
    policy = Policy((kind(),))
    return policy(inputs, targets, generator=torch.Generator().manual_seed(seed))


def copied(inputs):
    if isinstance(inputs, dict):
        return {key: tensor.clone() for key, tensor in inputs.items()}
    return tuple(t.clone() for t in inputs) if isinstance(inputs, tuple) else inputs.clone()


def equal(one, two):
    one, two = parts(one), parts(two)
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(kind):
    before = torch.get_rng_state()
    different = 0
    for inputs in batches(kind):
        one, two = run(kind, inputs), run(kind, inputs)
        assert equal(one.inputs, two.inputs)
        different += not equal(one.inputs, run(kind, inputs, seed=4).inputs)
    assert different > 0
    assert torch.equal(torch.get_rng_state(), before), "it drew from the global generator"


def test_what_it_is_given_stays_and_what_it_returns_has_the_same_form(kind):
    changed = 0
    for inputs in batches(kind):
        before = copied(inputs)
        found = run(kind, inputs, targets=torch.arange(EXAMPLES))
        assert equal(inputs, before)
        assert type(found.inputs) is type(inputs)
        for key, tensor in parts(found.inputs).items():
            given = parts(inputs)[key]
            assert tensor.shape == given.shape and tensor.dtype == given.dtype
            assert torch.isfinite(tensor.double()).all()
        changed += not equal(found.inputs, inputs)
    assert changed > 0


def test_no_value_leaves_the_range_of_an_image(kind):
    if kind.form != "images":
        return
    for inputs in batches(kind):
        for key, tensor in parts(run(kind, inputs).inputs).items():
            given = parts(inputs)[key].double()
            slack = 1e-2 if tensor.dtype == torch.float16 else 1e-4
            assert tensor.double().min() >= given.min() - slack
            assert tensor.double().max() <= given.max() + slack


def test_targets_stay_unless_examples_are_mixed(kind):
    targets = torch.arange(EXAMPLES)
    for inputs in batches(kind):
        pairs = run(kind, inputs, targets=targets).targets
        assert sum(weight for _, weight in pairs) == pytest.approx(1)
        assert torch.equal(pairs[0][0], targets)
        assert len(pairs) == 1 + kind.mixes
        assert run(kind, inputs).targets == ((None, 1.0),)


def test_each_example_is_changed_by_itself(kind):
    """The same one twelve times over becomes several different ones."""
    if kind.mixes:
        return
    inputs = copied(batches(kind)[1])
    for tensor in parts(inputs).values():
        tensor[:] = tensor[0].clone()
    (found, *_) = parts(run(kind, inputs).inputs).values()
    assert len({str(row.flatten().tolist()) for row in found}) > 1


def test_text_and_toml_bring_it_back(kind):
    for made in strengths(kind):
        policy = Policy((made, kind()))
        assert Policy.parse(str(policy)) == policy
        kept = tomllib.loads(f"policy = {json.dumps(str(policy))}")["policy"]
        assert Policy.parse(kept) == policy
    assert str(Policy((kind(),))) == kind.name


def strengths(kind):
    """Its default, and each field at both ends of its range."""
    made = [kind()]
    for name, field in kind.described()["fields"].items():
        ends = field["range"][1:-1].split(", ")
        made += [kind(**{name: type(field["default"])(float(end))}) for end in ends]
    return made


def test_every_strength_in_range_works(kind):
    for made in strengths(kind):
        for inputs in batches(kind):
            policy = Policy((made,))
            found = policy(inputs, generator=torch.Generator().manual_seed(1))
            for tensor in parts(found.inputs).values():
                assert torch.isfinite(tensor.double()).all(), made


def test_inputs_of_another_form_are_refused(kind):
    with pytest.raises(TaskError, match=rf"{kind.name} takes one input of .* none is among"):
        run(kind, WRONG[kind.form])
    if kind.form == "images":
        two = (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
        with pytest.raises(TaskError, match=r"more than one is among the inputs"):
            run(kind, two)


def test_unknown_fields_and_values_out_of_range_are_refused(kind):
    with pytest.raises(PlanError, match=rf"{kind.name} has no field 'stepp' .*its fields are"):
        Policy.parse(f"{kind.name}(stepp=1)")
    for name, field in kind.described()["fields"].items():
        with pytest.raises(ValidationError, match=name):
            kind(**{name: "1"})
        for wrong in ("-1000000", "1e12" if isinstance(field["default"], float) else "99999999999"):
            with pytest.raises(PlanError, match=rf"{kind.name}: {name} = .*the nearest is"):
                Policy.parse(f"{kind.name}({name}={wrong})")
        with pytest.raises(ValidationError, match="frozen"):
            setattr(kind(), name, field["default"])
        assert f"        {name}: " in kind.__doc__, f"{name} is not described"
        assert field["unit"]
    assert kind.source and kind.summary
