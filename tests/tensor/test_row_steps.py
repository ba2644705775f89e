import torch

from lilliput.tensor.feedback import Rounding, feedback_codes
from lilliput.tensor.grids import absolute_maximum_steps, clipped_steps
from lilliput.tensor.row_steps import best_steps
from lilliput.tensor.second_order import inverse_factor, layer_damage


def kernels():
    """Depthwise kernels behind a rectifier: their inputs hardly differ from tap to tap."""
    made = torch.Generator().manual_seed(3)
    weight = torch.randn(40, 9, generator=made)
    rows = torch.rand(500, 40, 1, generator=made) + 0.05 * torch.randn(500, 40, 9, generator=made)
    return weight, torch.einsum("nci,ncj->cij", rows, rows) / len(rows)


def test_a_step_near_the_widest_loses_a_fraction_of_it():
    weight, second = kernels()
    factor = inverse_factor(second)
    whole = absolute_maximum_steps(weight, 8)
    first = clipped_steps(weight, 8, power=second.diagonal(dim1=1, dim2=2))

    def lose(steps):
        codes = feedback_codes(weight, factor, steps, rounding=Rounding(largest=127))
        return layer_damage(weight, codes * steps[:, None], second)

    found = best_steps(first, whole, lose=lose)
    assert (lose(found) <= lose(first)).all()
    assert float(lose(found).sum()) < 0.5 * float(lose(first).sum())
    assert (found < 1.2 * whole).all()


def test_a_row_that_wins_nothing_keeps_its_step():
    first, whole = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0])
    found = best_steps(first, whole, lose=lambda steps: (steps - first).abs())
    assert torch.equal(found, first)
