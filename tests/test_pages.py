"""What pages of docs/ show, run as it stands there."""

import contextlib
import io
import re
from pathlib import Path

import torch

from lilliput.learning.augmenting.policy import AUGMENTATIONS, default_corruptions

DOCS = Path(__file__).parents[1] / "docs"


def run(page):
    """Runs the page's Python; what it prints is what the page says. Returns the names it made."""
    text = (DOCS / page).read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = re.findall(r"```(python|text)\n(.*?)```", text, re.DOTALL)
    told = io.StringIO()
    for kind, block in blocks:
        if kind == "python":
            with contextlib.redirect_stdout(told):
                exec(compile(block, page, "exec"), names)
            continue
        assert told.getvalue() == block
        told = io.StringIO()
    assert told.getvalue() == ""
    return names


def test_the_page_on_shapes_prints_what_it_says():
    names = run("shapes.md")
    assert type(names["narrower"]).__name__ == "Classifier"
    assert names["narrower"].hidden.weight.shape == (32, 16)


def test_the_page_on_augmentation_prints_what_it_says_and_names_all():
    run("augmentation.md")
    text = (DOCS / "augmentation.md").read_text(encoding="utf-8")
    table = text.partition("## What there is")[2].partition("## On")[0]
    rows = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|.*", table, re.MULTILINE))))
    assert rows == {kind.name for kind in AUGMENTATIONS}
    tokens = {"input_ids": torch.ones(2, 9, dtype=torch.int64)}
    tokens["attention_mask"] = tokens["input_ids"]
    inputs = {"images": torch.rand(2, 1, 8, 8), "sounds": torch.rand(2, 1, 99), "texts": tokens}
    for name, batch in inputs.items():
        told = " ".join(f"`{step}`" for step in default_corruptions(batch))
        assert f"| {name} | {told} |" in text


def test_the_page_on_distillation_prints_what_it_says():
    names = run("distillation.md")
    assert names["learned"].best.score > 0.5


def test_the_page_on_learning_prints_what_it_says():
    names = run("learning.md")
    assert names["best"].learned.model.head.weight.shape[0] == 10
