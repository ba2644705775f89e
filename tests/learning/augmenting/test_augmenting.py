"""Policies: their text, their steps in order, and what is chosen by itself."""

import pytest
import torch
from torch import nn

from lilliput import Task
from lilliput.errors import PlanError, TaskError
from lilliput.learning import Policy, default_policy
from lilliput.learning.augmenting.augment_images import Crop, Flip
from lilliput.learning.augmenting.augment_mixing import MixUp
from lilliput.learning.augmenting.policy import AUGMENTATIONS, default_corruptions, form_of


def test_the_text_of_a_policy():
    policy = Policy.parse("flip, crop(padding=2), mixup(alpha=0.4)")
    assert policy == Policy((Flip(), Crop(padding=2), MixUp(alpha=0.4)))
    assert str(policy) == "flip, crop(padding=2), mixup(alpha=0.4)"
    assert Policy.parse(" flip ,crop( padding = 2 ) , mixup(alpha=4e-1) ") == policy
    assert str(Policy()) == "none" and Policy.parse("none") == Policy.parse("") == Policy()
    assert Policy.parse("rotate(degrees=20)") == Policy.parse("rotate(degrees=20.0)")
    assert len({kind.name for kind in AUGMENTATIONS}) == len(AUGMENTATIONS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flipp", r"unknown augmentation 'flipp' \(did you mean flip\? known are blur, brightn"),
        ("crop(pading=2)", r"crop has no field 'pading' \(did you mean padding\?"),
        ("crop(padding=2.5)", r"crop: padding = 2.5: Input should be a valid integer"),
        ("crop(padding=300)", r"padding = 300: .* in \[0, 256\], the nearest is 256"),
        ("crop(padding)", r"crop\(padding\): 'padding' is not a field and its value"),
        ("crop(padding=1, padding=2)", r"'padding=2' is not a field and its value"),
        ("flip crop", r"'flip crop' is no policy from 'flip crop' on"),
        ("flip, crop(padding=2", r"no policy from 'crop\(padding=2' on"),
        ("flip; crop", r"unknown augmentation|no policy"),
        ("flip(chance=nan)", r"chance = nan: Input should be"),
        ("flip(chance=true)", r"chance = True: Input should be"),
        ("flip, , crop", r"no policy from ', crop' on"),
    ],
)
def test_what_is_no_policy_is_refused(text, told):
    with pytest.raises(PlanError, match=told):
        Policy.parse(text)


def test_steps_follow_each_other_on_one_generator():
    images = torch.rand(6, 3, 8, 8)
    draw = torch.Generator().manual_seed(1)
    both = Policy.parse("crop(padding=1), brightness")(images, generator=draw)
    again = torch.Generator().manual_seed(1)
    one = Policy.parse("crop(padding=1)")(images, generator=again)
    two = Policy.parse("brightness")(one.inputs, generator=again)
    assert torch.equal(both.inputs, two.inputs)
    assert not torch.equal(
        both.inputs, Policy.parse("crop(padding=1)")(images, generator=draw).inputs
    )


def test_a_flip_of_token_numbers_is_refused():
    with pytest.raises(TaskError, match=r"flip takes one input of images .* int64 \(4, 9\)"):
        Policy.parse("flip")(torch.zeros(4, 9, dtype=torch.int64), generator=torch.Generator())


TOKENS = torch.randint(0, 9, (1, 6))
INPUTS = {
    "images": torch.rand(1, 3, 32, 48),
    "audio": torch.randn(1, 1, 500),
    "text": {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)},
    "tables": torch.randn(1, 784),
    "channels": torch.randn(1, 12, 30, 30),
    "numbers of two kinds": (torch.randn(1, 5), TOKENS),
}
FORMS = dict(zip(INPUTS, ("images", "audio", "text", "", "", ""), strict=True))


@pytest.mark.parametrize("name", INPUTS)
def test_the_form_of_the_inputs_chooses(name):
    inputs = INPUTS[name]
    assert form_of(inputs) == FORMS[name]
    task = Task(model=nn.Identity(), example_inputs=inputs)
    policy = default_policy(task)
    assert bool(policy.steps) == bool(FORMS[name])
    assert Policy.parse(str(policy)) == policy
    assert "flip" not in str(policy) and not any(step.mixes for step in policy.steps)
    policy(inputs, generator=torch.Generator())
    corruptions = default_corruptions(inputs)
    assert bool(corruptions) == bool(FORMS[name])
    if name == "images":
        assert policy.steps[0] == Crop(padding=4) and len(corruptions) == 4


def test_corruptions_leave_out_what_a_batch_cannot_take(monkeypatch):
    tokens = torch.randint(0, 9, (2, 6))
    masked = {"tokens": tokens, "attention_mask": torch.ones_like(tokens)}
    assert [step.name for step in default_corruptions(masked)] == ["drop_tokens", "mask_tokens"]
    assert [step.name for step in default_corruptions(masked, tokens)] == ["mask_tokens"]
    assert default_corruptions(tokens) == (), "they may be categories"
    monkeypatch.setattr("lilliput.learning.augmenting.policy.package_version", lambda name: None)
    images = torch.rand(2, 1, 8, 8)
    assert [step.name for step in default_corruptions(images)] == ["noise", "contrast"]
