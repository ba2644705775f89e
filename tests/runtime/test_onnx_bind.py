import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_match import factor_of, order, rows_in


def pieces(sample, parameter):
    return [
        (binding, piece)
        for binding in sample.bindings.found
        for piece in binding.pieces
        if piece.parameter == parameter
    ]


def test_every_site_is_found(language, convolutions, recurrent):
    for sample in (language, convolutions, recurrent):
        assert sample.bindings.missing == () and sample.bindings.absent == ()


def test_parameters_are_found_by_value_never_by_the_initializers_name(language):
    [(binding, piece)] = pieces(language, "layer.self_attn.in_proj_weight")
    assert binding.initializer != piece.parameter and piece.transposed
    [(binding, piece)] = pieces(language, "embed.weight")
    assert {name.split("_")[0] for name, _ in binding.uses} == {"node", "turn"}


def test_equal_parameters_are_told_apart_by_what_reads_them(language):
    [(first, _)] = pieces(language, "first.weight")
    [(second, _)] = pieces(language, "second.weight")
    assert first.initializer == second.initializer
    assert not set(first.uses) & set(second.uses)
    [(one, _)], [(two, _)] = (
        pieces(language, "layer.norm1.weight"),
        pieces(language, "layer.norm2.weight"),
    )
    assert one.initializer == two.initializer and one.uses != two.uses


def test_a_folded_batch_norm_is_a_factor_per_channel(convolutions):
    model = convolutions.model
    [(_, piece)] = pieces(convolutions, "stem.weight")
    wanted = model.norm.weight / torch.sqrt(model.norm.running_var + model.norm.eps)
    np.testing.assert_allclose(piece.factor.reshape(-1), wanted.detach(), rtol=1e-5)
    [(_, piece)] = pieces(convolutions, "up.weight")
    assert piece.factor.shape == (1, 4, 1, 1)  # a transposed convolution's outputs come second
    assert [fold.layer_bias for fold in convolutions.bindings.folds] == [None, "up.bias"]
    names = {name for name, _ in model.named_parameters()}
    assert convolutions.bindings.replaceable == names


def test_recurrent_weights_are_stacked_with_their_gates_reordered(recurrent):
    [(binding, piece)] = pieces(recurrent, "lstm.weight_ih_l0_reverse")
    assert binding.shape == (2, 32, 6) and piece.slot == (1, 0, 32)
    blocks = piece.rows.reshape(4, 8)[:, 0] // 8
    assert blocks.tolist() == [0, 3, 1, 2]
    [(_, piece)] = pieces(recurrent, "gru.bias_hh_l0")
    assert piece.slot == (0, 24, 48) and "gru.bias_hh_l0" in recurrent.bindings.replaceable


def test_a_site_that_the_outputs_do_not_need_is_absent_not_missing(language):
    state = dict(language.model.named_parameters())
    sites = {**language.sites, "gone": language.sites["raw"]}
    bindings = bind(language.exported, sites, {**state, "gone": torch.randn(32, 31)})
    assert bindings.absent == ("gone",) and bindings.missing == ()
    changed = {**state, "raw": torch.randn(32, 32)}
    assert bind(language.exported, language.sites, changed).missing == ("raw",)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_factors_are_found_and_only_where_there_are_any(rows, columns, seed):
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(rows + 1, columns + 1)).astype(np.float32)
    scale = rng.uniform(0.1, 3, size=(rows + 1, 1)).astype(np.float32)
    np.testing.assert_allclose(factor_of(whole * scale, whole, 0), scale, rtol=1e-5)
    other = whole * scale + np.float32(0.5)
    assert factor_of(other, whole, 0) is None


@pytest.mark.parametrize("turned", [False, True])
def test_consecutive_rows_are_found_where_they_are(turned):
    whole = np.arange(60, dtype=np.float32).reshape(12, 5)
    part = whole[3:7]
    rows = rows_in(part.T.T if turned else part, whole)
    assert rows.tolist() == [3, 4, 5, 6]
    assert rows_in(part + 1, whole) is None and rows_in(whole, whole) is None


def test_gates_are_moved_as_blocks():
    assert order((1, 0, 2), 6).tolist() == [2, 3, 0, 1, 4, 5]
