import numpy as np
import pytest

from lilliput.metrics import Accuracy
from lilliput.statistics import drop_bound
from lilliput.verdicts import exit_status, overall, settle, verdict_of


@pytest.mark.parametrize("examples", range(120, 900, 60))
@pytest.mark.parametrize("flips", [1, 3, 7])
def test_flips_that_are_all_for_the_worse_can_be_settled(examples, flips):
    """Their share and the drop are the same number, but for rounding."""
    original = np.ones((examples, 1))
    original[-examples // 3 :] = 0
    artifact = original.copy()
    artifact[:flips] = 0
    bound = drop_bound(original, artifact, Accuracy(), confidence=0.975)
    assert bound.flips == flips
    asked = 1.5 * flips / examples
    assert "settle it in 4 of 5 cases" in settle(bound, asked)
    assert "would not settle it" in settle(bound, 0.5 * flips / examples)


def test_a_verdict_is_where_the_limit_lies():
    assert verdict_of(0.01, 0.001, 0.01) == "proved"
    assert verdict_of(0.01, 0.001, 0.011) == verdict_of(0.01, None, None) == "unproved"
    assert verdict_of(0.01, 0.011, 0.02) == "missed"
    assert overall(["proved", "unproved", "missed"]) == "missed"
    assert [exit_status(word) for word in ("proved", "missed", "unproved")] == [0, 1, 3]
