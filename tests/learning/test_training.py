from itertools import pairwise

import pytest

from lilliput.errors import TrainingError
from lilliput.learning import Reach, Training


def test_rates_rise_to_the_rate_and_fall_to_zero():
    training = Training(rate=0.1, warmup=0.1)
    rates = [training.rate_at(step, 100) for step in range(100)]
    assert rates[0] < rates[5] < rates[9] < 0.1 and max(rates) == rates[10] == 0.1
    assert all(a > b for a, b in pairwise(rates[10:])) and rates[-1] < 1e-4
    assert Training(schedule="constant", warmup=0.0).rate_at(99, 100) == 1e-3
    assert Training(schedule="linear", warmup=0.0, rate=1.0).rate_at(25, 100) == 0.75


def test_the_length_is_said_once():
    assert Training().total(10) == 30 and Training(epochs=0.5).total(10) == 5
    assert Training(steps=7).total(10) == 7 and Training(minutes=1).total(10) is None
    with pytest.raises(TrainingError, match="epochs and minutes both say how long"):
        Training(epochs=1, minutes=1)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"optimizer": "adamm"}, "there is no optimizer 'adamm'.*the nearest is adam"),
        ({"schedule": "cosin"}, "there is no schedule 'cosin'.*the nearest is cosine"),
        ({"rate": -1.0}, r"rate = -1 is out of range \(allowed is \(0, inf\)"),
        ({"rate": float("nan")}, "rate = nan is out of range"),
        ({"batch_size": 0}, r"allowed is \[1, inf\), the nearest is 1"),
        ({"batch_size": 1.5}, "batch_size must be a whole number, got 1.5"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"average": 1.0}, r"allowed is \[0, 1\), the nearest is 1"),
        ({"loggers": ("tensorbord",)}, "there is no logger 'tensorbord'"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(fields, told):
    with pytest.raises(TrainingError, match=told):
        Training(**fields)


def test_a_reach_has_ranges():
    with pytest.raises(TrainingError, match="last = 0 is out of range"):
        Reach(part="last", last=0)
    with pytest.raises(TrainingError, match="scale = 0 is out of range"):
        Reach(scale=0)
