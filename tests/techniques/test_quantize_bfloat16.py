import dataclasses

import torch

from lilliput.techniques import QuantizeBfloat16


def test_values_are_those_of_bfloat16_in_their_own_type(profile):
    for name in ("bias", "conv"):
        before = profile.parameters[name]
        value = QuantizeBfloat16().apply(profile, (name,))[name].decode()
        assert value.dtype == torch.float32
        assert torch.equal(value, before.bfloat16().float())
        assert 0 < float(((value - before).abs() / before.abs()).max()) <= 2**-8


def test_very_large_and_small_numbers_fit_and_what_is_not_finite_stays(profile):
    for numbers, taken in (([1e38, 1e-38], True), ([3.4e38, 1.0], False), ([torch.nan], False)):
        other = dataclasses.replace(profile, parameters={"norm": torch.tensor(numbers)})
        assert list(QuantizeBfloat16().apply(other, ("norm",))) == (["norm"] if taken else [])
