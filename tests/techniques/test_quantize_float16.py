import dataclasses

import pytest
import torch

from lilliput.techniques import QuantizeFloat16
from lilliput.techniques.quantize_float16 import harmless


def test_values_are_those_of_half_precision_in_their_own_type(profile):
    value = QuantizeFloat16().apply(profile, ("bias",))["bias"].decode()
    assert value.dtype == torch.float32
    assert torch.equal(value, profile.parameters["bias"].half().float())
    relative = (value - profile.parameters["bias"]).abs() / profile.parameters["bias"].abs()
    assert 0 < float(relative.max()) <= 2**-11


@pytest.mark.parametrize(
    ("number", "said"),
    [(0.0, True), (1.0, True), (65504.0, True), (65520.0, False), (-1e6, False),
     (2.0**-14, True), (2.0**-15, False), (-1e-8, False)],
)  # fmt: skip
def test_what_would_be_harmed_is_left_alone(profile, number, said):
    value = torch.tensor([1.0, number])
    assert harmless(value) is said
    other = dataclasses.replace(profile, parameters={"norm": value})
    assert list(QuantizeFloat16().apply(other, ("norm",))) == (["norm"] if said else [])
