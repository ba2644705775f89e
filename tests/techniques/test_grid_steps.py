import dataclasses

import pytest
import torch

from lilliput.techniques import QuantizeFeedback
from lilliput.techniques.grid_steps import MARGIN, row_steps


def grid(profile, name, outliers):
    """The same steps everywhere, whatever the outliers do to the weight's deviation."""
    plain = QuantizeFeedback(step=0.2).apply(profile, (name,))[name]
    before, value = profile.parameters[name], profile.parameters[name].clone()
    columns = torch.ones(value.shape[1]) if plain.column_steps is None else plain.column_steps
    value[:outliers, 3] = 150 * plain.row_steps[:outliers] * columns[3]
    other = dataclasses.replace(profile, parameters={**profile.parameters, name: value})
    return QuantizeFeedback(step=0.2 * float(before.std() / value.std())).apply(other, (name,))[
        name
    ]


def test_a_few_rows_of_outliers_do_not_make_a_table_int16(profile):
    none, one, many = (grid(profile, "table", count) for count in (0, 1, 60))
    assert none.codes.dtype == torch.int8
    assert one.codes.dtype == torch.int8 and one.clipped == 0
    assert float(one.row_steps[0] / none.row_steps[0]) > 1.2
    assert torch.allclose(one.row_steps[1:], none.row_steps[1:], rtol=0.2)
    assert many.codes.dtype == torch.int16  # too many: they keep their precision
    assert torch.allclose(many.row_steps, none.row_steps, rtol=0.2)


def test_a_channel_of_outliers_keeps_its_precision(profile):
    one = grid(profile, "linear", 1)
    assert one.codes.dtype == torch.int16 and one.clipped == 0


def test_steps_that_fit_are_left_alone(profile):
    known, weight = profile.sites["linear"], profile.matrix("linear")
    fine, coarse = (
        row_steps(known, weight, step=step, exponent=0.4, worth=known.weights, columns=None)
        for step in (0.2, 1.0)
    )
    assert torch.allclose(coarse / fine, torch.tensor(5.0), rtol=0.2)
    assert float((weight.abs().amax(1) / fine).max()) <= MARGIN * 127 * 1.1


def test_what_is_worth_more_gets_a_finer_step(profile):
    known, weight = profile.sites["linear"], profile.matrix("linear")
    worth = torch.ones(known.site.rows)
    worth[7] = 16.0
    steps = row_steps(known, weight, step=1.0, exponent=0.5, worth=worth, columns=None)
    assert float(steps[8] / steps[7]) == pytest.approx(4, rel=0.1)
    same = row_steps(known, weight, step=1.0, exponent=0.0, worth=worth, columns=None)
    assert float(same[8]) == float(same[7])
