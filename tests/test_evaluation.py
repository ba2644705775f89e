"""A model is lent, used and given back as it was."""

import pytest
import torch
from torch import nn

from lilliput.evaluation import evaluating


def test_it_leaves_no_trace():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(4))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), evaluating(model) as evaluated:
        assert not evaluated[0].training and not torch.backends.mha.get_fastpath_enabled()
        assert not evaluated(torch.ones(3, 4)).requires_grad
        raise KeyError
    assert torch.backends.mha.get_fastpath_enabled()
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
