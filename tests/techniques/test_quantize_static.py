from dataclasses import replace

import pytest
import torch

from lilliput.model.encodings import Inputs
from lilliput.model.spread import nothing_seen
from lilliput.stages.option_table import Candidate
from lilliput.stages.prices import kernel_of
from lilliput.techniques import QuantizeDynamic, QuantizeStatic, integer_products
from lilliput.techniques import quantize_static as module
from lilliput.tensor.smoothing import outlying

NAME = "linear"


def with_outlier(profile):
    """Inputs of which one reaches a hundred times as far as the others, seldom."""
    made = torch.Generator().manual_seed(5)
    rows = torch.randn(2000, 128, generator=made)
    rows[::50, 7] *= 100
    known = profile.sites[NAME]
    second = (rows.t() @ rows / len(rows))[None]
    known = replace(known, second=second, inputs=nothing_seen(128).with_rows(rows))
    return replace(profile, sites={NAME: known}), rows


def answer(grid, rows):
    """What the artifact computes: outliers apart, scaled, rounded, times the codes."""
    scaled = rows if grid.column_steps is None else rows * grid.column_steps
    product = grid.inputs.rounded(scaled) @ (grid.codes.float() * grid.row_steps[:, None]).t()
    if grid.outliers is not None:
        product += rows[:, grid.outliers.places] @ grid.outliers.weight.t()
    return product


def error(profile, rows, technique):
    grid = technique.apply(profile, (NAME,))[NAME]
    wanted = rows @ profile.matrix(NAME).t()
    return float((answer(grid, rows) - wanted).square().sum() / wanted.square().sum())


def test_codes_are_bounded_by_their_width(profile):
    for bits, largest in ((8, 127), (7, 63)):
        for kind in (QuantizeStatic, QuantizeDynamic):
            for name, grid in kind(bits=bits).apply(profile, list(profile.sites)).items():
                assert grid.codes.dtype == torch.int8 and int(grid.codes.abs().max()) <= largest
                assert int(grid.codes.abs().max()) > largest // 2, name


def test_what_has_no_integer_form_keeps_float_inputs(profile):
    static = QuantizeStatic().apply(profile, list(profile.sites))
    dynamic = QuantizeDynamic().apply(profile, list(profile.sites))
    assert static["table"].inputs is None and static["unseen"].inputs is None
    assert static["conv"].inputs is not None and static["conv"].column_steps is None
    assert static["conv"].results is not None and static["linear"].results is None
    assert dynamic["conv"].inputs is None and dynamic["linear"].inputs == Inputs()


def test_smoothing_and_float_outliers_each_lower_the_error(profile):
    known, rows = with_outlier(profile)
    plain = error(known, rows, QuantizeStatic(smoothing=0.0, outliers=0))
    smooth = error(known, rows, QuantizeStatic(outliers=0))
    apart = error(known, rows, QuantizeStatic())
    assert smooth < 0.25 * plain and apart < 0.5 * smooth
    grid = QuantizeStatic().apply(known, (NAME,))[NAME]
    assert grid.outliers.places.tolist() == [7] and not grid.codes[:, 7].any()
    assert torch.equal(grid.decode()[:, 7], known.matrix(NAME)[:, 7])


def test_the_predicted_damage_is_the_one_that_is_measured(profile):
    known, rows = with_outlier(profile)
    for technique in (QuantizeStatic(), QuantizeStatic(smoothing=0.0), QuantizeDynamic()):
        for option in technique.options(known, NAME):
            changed = technique.model_copy(update=option.settings)
            grid = changed.apply(known, (NAME,))[NAME]
            moved = answer(grid, rows) - rows @ known.matrix(NAME).t()
            site = known.sites[NAME]
            measured = float((moved.square().mean(0) * site.weights).sum()) * site.sensitivity
            assert option.damage == pytest.approx(measured, rel=0.3), changed


def test_inputs_stay_float_only_where_that_pays(profile):
    """One that reaches little farther than is common is smoothed, and costs no second product."""
    far, _ = with_outlier(profile)
    assert QuantizeStatic().apply(far, (NAME,))[NAME].outliers is not None
    spread = far.sites[NAME].inputs
    reach = 4.5 * float(torch.maximum(-spread.low, spread.high).median())
    low, high = spread.low.clone(), spread.high.clone()
    low[7], high[7] = -reach, reach
    nearer = replace(far.sites[NAME], inputs=replace(spread, low=low, high=high))
    assert outlying(low, high, most=4).tolist() == [7]
    found = QuantizeStatic().apply(replace(far, sites={NAME: nearer}), (NAME,))[NAME]
    assert found.outliers is None and found.column_steps is not None


def test_a_limit_on_latency_can_choose_to_keep_no_input_float(profile):
    known, _ = with_outlier(profile)
    apart, rounded = QuantizeStatic().options(known, NAME)
    assert "outliers" not in apart.settings and rounded.settings["outliers"] == 0
    assert 2 * apart.damage < rounded.damage
    weights = known.sites[NAME].site.size
    assert apart.installed == rounded.installed + 4 * 96 == weights + 4 * 96
    kernels = [kernel_of(Candidate((QuantizeStatic(),), o, 0), weights) for o in (apart, rounded)]
    assert kernels == ["quantize_static/outliers@8", "quantize_static@8"]
    assert len(QuantizeStatic().options(profile, NAME)) == 1  # none reaches far


def test_rounding_the_results_of_a_convolution_is_predicted_too(profile):
    """Behind BatchNorm and rectifier, where what was cut off to zero is exact."""
    made = torch.Generator().manual_seed(6)
    results = (torch.randn(5000, 32, generator=made) * 3 - 1).clamp(0, 6)
    known = profile.sites["conv"]

    def handing_on(spread):
        return replace(profile, sites={"conv": replace(known, results=spread)})

    def damage(spread):
        return QuantizeStatic().options(handing_on(spread), "conv")[0].damage

    spread = nothing_seen(32).with_rows(results)
    grid = QuantizeStatic().apply(handing_on(spread), ("conv",))["conv"].results
    lost = (grid.rounded(results) - results).square().sum(0) / (results > 0).sum(0)
    worth = known.weights / known.row_sizes.square()
    wanted = float((lost * worth).sum()) * known.sensitivity
    assert damage(spread) - damage(None) == pytest.approx(wanted, rel=0.1)


def test_feedback_and_steps_per_channel_lower_the_damage(profile):
    weight, site = profile.matrix(NAME), profile.sites[NAME]

    def damage(**fields):
        grid = QuantizeStatic(**fields).apply(profile, (NAME,))[NAME]
        return site.damage(weight, site.site.matrix(grid.decode()))

    assert damage() < 0.8 * damage(feedback=False)
    assert damage(feedback=False) < damage(feedback=False, per_channel=False)


def test_short_rows_get_the_step_on_which_they_lose_least(profile, monkeypatch):
    known = profile.sites["conv"]
    weight = profile.matrix("conv")

    def damage():
        grid = QuantizeStatic().apply(profile, ("conv",))["conv"]
        assert int(grid.codes.abs().max()) <= 127
        return known.damage(weight, known.site.matrix(grid.decode()))

    searched = damage()
    monkeypatch.setattr(integer_products, "SHORT", 0)
    assert searched < 0.95 * damage()


@pytest.mark.parametrize("kind", [QuantizeStatic, QuantizeDynamic])
def test_a_processor_without_vnni_is_offered_seven_bits(kind, profile, monkeypatch):
    where = module if kind is QuantizeStatic else __import__(kind.__module__, fromlist=["_"])
    for saturates, wanted in ((True, {"bits": 7}), (False, {})):
        monkeypatch.setattr(where, "int8_saturates", lambda saturates=saturates: saturates)
        assert kind().options(profile, NAME)[0].settings == wanted


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_range_holds_zero_and_the_middle_of_the_values(method, profile):
    grid = QuantizeStatic(ranges=method, percentile=99.0).apply(profile, ("conv",))["conv"]
    low = -grid.inputs.zero * grid.inputs.step
    high = (255 - grid.inputs.zero) * grid.inputs.step
    spread = profile.sites["conv"].inputs.histogram
    assert spread.low * 1.01 <= low < 0 < high <= spread.high * 1.01
