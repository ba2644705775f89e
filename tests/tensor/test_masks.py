import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.tensor.masks import PATTERNS, Pattern, fits, keep, refit
from lilliput.tensor.second_order import layer_damage


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moments(columns, *, seed=0):
    inputs = draw(6 * columns, columns, seed=seed) @ (
        torch.eye(columns) + 0.3 * draw(columns, columns)
    )
    return inputs.t() @ inputs / len(inputs)


@given(st.integers(1, 12), st.integers(1, 30), st.floats(0, 1), st.booleans())
def test_exactly_the_amount_goes(rows, columns, amount, by_row):
    scores = torch.zeros(rows, columns)  # all equal: ties must not matter
    mask = keep(scores, amount, pattern=Pattern(), by_row=by_row)
    wanted = rows * round(amount * columns) if by_row else round(amount * rows * columns)
    assert int((~mask).sum()) == wanted
    if by_row:
        assert len(set(mask.sum(1).tolist())) == 1


@given(st.integers(0, 1000))
def test_what_scores_highest_stays(seed):
    scores = draw(8, 12, seed=seed)
    mask = keep(scores, 0.5, pattern=Pattern())
    assert float(scores[mask].min()) >= float(scores[~mask].max())


@pytest.mark.parametrize(("text", "kept", "group"), [("2:4", 2, 4), ("4:8", 4, 8)])
def test_of_every_group_as_many_stay(text, kept, group):
    scores = draw(6, 32)
    mask = keep(scores, 0.9, pattern=PATTERNS[text])
    grouped = mask.reshape(6, -1, group)
    assert (grouped.sum(2) == kept).all()
    high = scores.reshape(6, -1, group).topk(kept, 2).values.min(2).values
    assert (scores.reshape(6, -1, group)[grouped].reshape(6, -1, kept).min(2).values == high).all()


@pytest.mark.parametrize(("text", "block"), [("1x4", (1, 4)), ("4x1", (4, 1))])
def test_blocks_stay_or_go_as_a_whole(text, block):
    mask = keep(draw(8, 16), 0.5, pattern=PATTERNS[text])
    high, wide = block
    parts = mask.reshape(8 // high, high, 16 // wide, wide).float().mean((1, 3))
    assert set(parts.flatten().tolist()) == {0.0, 1.0}
    assert int(mask.sum()) == 64


def test_a_pattern_must_divide_the_matrix():
    assert fits((3, 8), PATTERNS["2:4"]) and not fits((3, 6), PATTERNS["2:4"])
    assert fits((8, 3), PATTERNS["4x1"]) and not fits((6, 3), PATTERNS["4x1"])
    assert fits((3, 5), PATTERNS["any"])


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.8])
def test_refitted_weights_are_those_of_least_squares(amount):
    """Row by row by hand: the normal equations on the kept columns."""
    weight, second = draw(5, 24), moments(24)
    mask = keep(draw(5, 24, seed=2), amount, pattern=Pattern())
    found = refit(weight, mask, second=second)
    assert not found[~mask].any()
    for row in range(5):
        kept = mask[row].nonzero()[:, 0]
        exact = second.double()
        wanted = torch.linalg.solve(exact[kept][:, kept], exact[kept] @ weight[row].double())
        assert torch.allclose(found[row, kept].double(), wanted, atol=2e-3)


def test_a_refit_never_costs_more():
    weight, second = draw(40, 60), moments(60)
    for seed in range(5):
        mask = keep(draw(40, 60, seed=seed), 0.6, pattern=Pattern())
        before = float(layer_damage(weight, weight * mask, second).sum())
        after = float(layer_damage(weight, refit(weight, mask, second=second), second).sum())
        assert after < 0.9 * before


def test_a_refit_without_anything_kept_is_nothing():
    weight = draw(3, 4)
    assert not refit(weight, torch.zeros(3, 4, dtype=torch.bool), second=torch.eye(4)).any()
