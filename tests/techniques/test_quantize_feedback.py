import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.techniques import QuantizeFeedback, QuantizeRound
from lilliput.techniques.quantize_feedback import automatic_dead_zone
from lilliput.tensor.second_order import layer_damage

STEPS = (0.02, 0.3, 1.0, 2.5)


def damage(profile, name, encoding):
    known = profile.sites[name]
    value = known.site.matrix(encoding.decode())
    rows = layer_damage(profile.matrix(name), value, known.second)
    return float((rows * known.weights).sum())


@pytest.mark.parametrize("step", STEPS)
def test_steps_that_are_stored_lie_on_half_precisions_grid(profile, step):
    for name, grid in QuantizeFeedback(step=step).apply(profile, profile.sites).items():
        factors = profile.sites[name].row_factors
        stored = grid.row_steps if factors is None else grid.row_steps * factors.abs()
        half = stored.half().float()
        assert (half > 0).all()
        assert ((stored - half).abs() <= 2**-22 * half).all(), name
        if factors is None:
            assert torch.equal(stored, half), name
        assert len(set(half.tolist())) <= 24  # on a grid of quarter octaves: cheap to store
        if grid.column_steps is not None:
            assert torch.equal(grid.column_steps, grid.column_steps.half().float())


@pytest.mark.parametrize("step", STEPS)
def test_the_step_asked_for_is_the_step_got(profile, step):
    for name, grid in QuantizeFeedback(step=step).apply(profile, profile.sites).items():
        known = profile.sites[name]
        factors = torch.ones(len(grid.row_steps))
        if known.row_factors is not None:  # rows are compared as they are stored
            factors = known.row_factors.abs()
        asked = step * float((profile.matrix(name) * factors[:, None]).std())
        got = float((grid.row_steps * factors).log().mean().exp())
        assert got == pytest.approx(asked, rel=0.1), name
        if grid.column_steps is not None:
            assert float(grid.column_steps.log().mean().exp()) == pytest.approx(1, rel=0.1)
        order = grid.row_steps[known.weights.argsort()]
        if known.row_factors is None:  # what matters more gets a finer step
            assert (order.diff() <= 1e-9).all(), name


def test_fine_steps_fall_back_to_int16_and_clip_at_last(profile):
    kinds = {}
    for step in (1.0, 0.01, 0.0001):
        grid = QuantizeFeedback(step=step).apply(profile, ("linear",))["linear"]
        kinds[step] = grid.codes.dtype, grid.clipped
        assert int(grid.codes.int().abs().max()) <= (
            127 if grid.codes.dtype == torch.int8 else 32767
        )
    assert kinds[1.0] == (torch.int8, 0)
    assert kinds[0.01] == (torch.int16, 0)
    assert kinds[0.0001][0] == torch.int16 and kinds[0.0001][1] > 0


def test_it_beats_plain_rounding_at_the_same_size(profile):
    for name in ("linear", "conv", "turned"):
        plain = QuantizeRound().options(profile, name)[5]  # three bits
        fed = QuantizeFeedback().options(profile, name)
        sizes, damages = ([getattr(o, f) for o in fed][::-1] for f in ("storage", "damage"))
        at = np.exp(np.interp(plain.storage, sizes, np.log(damages)))
        assert at < 0.55 * plain.damage, name


def test_predicted_damage_is_what_the_whole_site_suffers(profile):
    for name in ("linear", "turned", "conv", "grouped", "depthwise"):
        for option in QuantizeFeedback().options(profile, name)[3:]:
            found = QuantizeFeedback(**option.settings).apply(profile, (name,))[name]
            actual = damage(profile, name, found) * profile.sites[name].sensitivity
            assert option.damage == pytest.approx(actual, rel=0.15), (name, option.settings)


def test_rows_of_zeros_and_constant_weights_survive(profile):
    for value in (torch.zeros(96, 128), torch.full((96, 128), 0.25)):
        flat = dataclasses.replace(profile, parameters={**profile.parameters, "linear": value})
        for step in (0.02, 0.25):
            grid = QuantizeFeedback(step=step).apply(flat, ("linear",))["linear"]
            assert torch.isfinite(grid.decode()).all() and (grid.row_steps > 0).all()
        options = QuantizeFeedback().options(flat, "linear")
        assert np.isfinite([option.damage for option in options]).all()
        if not value.any():
            assert not grid.decode().any()


@pytest.mark.parametrize("scale", [1e-7, 1e-4, 1e3, 1e6])
def test_tiny_and_huge_weights_keep_their_precision(profile, scale):
    """Half precision ends at 6e-8 and 65504; steps must not be lost there."""
    value = profile.parameters["linear"] / 0.05 * scale
    other = dataclasses.replace(profile, parameters={**profile.parameters, "linear": value})
    grid = QuantizeFeedback(step=0.1).apply(other, ("linear",))["linear"]
    error = (grid.decode() - value).square().sum() / value.square().sum()
    assert float(error) < 0.02


@given(st.floats(0.001, 16), st.floats(0.001, 16))
def test_the_dead_zone_grows_with_the_step(one, two):
    low, high = sorted((one, two))
    assert 0 <= automatic_dead_zone(low) <= automatic_dead_zone(high) < 0.5


@pytest.mark.parametrize(("name", "exponent"), [("linear", 1.0), ("conv", 0.6), ("table", 1.0)])
def test_columns_of_convolutions_differ_less(profile, name, exponent):
    chosen = QuantizeFeedback(step=0.3).apply(profile, (name,))[name]
    asked = QuantizeFeedback(step=0.3, column_exponent=exponent).apply(profile, (name,))[name]
    assert torch.equal(chosen.column_steps, asked.column_steps)
    assert torch.equal(chosen.codes, asked.codes)
