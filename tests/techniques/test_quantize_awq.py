import dataclasses

import torch

from lilliput.techniques import QuantizeAwq, QuantizeGroups


def spiky(profile, name):
    """The profile with a few inputs of one site a hundred times as large as the others."""
    known = profile.sites[name]
    large = torch.ones(known.site.columns)
    large[::16] = 100.0
    second = known.second * large[:, None] * large[None, :]
    sites = dict(profile.sites) | {name: dataclasses.replace(known, second=second)}
    return dataclasses.replace(profile, sites=sites, factors={})


def test_columns_with_large_inputs_are_rounded_more_finely(profile):
    some = spiky(profile, "linear")
    known, weight = some.sites["linear"], some.matrix("linear")
    plain = QuantizeGroups(bits=4, method="round", clip=False).apply(some, ("linear",))["linear"]
    aware = QuantizeAwq(bits=4, clip=False).apply(some, ("linear",))["linear"]
    lost = [known.damage(weight, encoding.decode()) for encoding in (plain, aware)]
    assert lost[1] < 0.5 * lost[0]
    error = (aware.decode() - weight).square().mean(0)
    assert error[::16].mean() < 0.1 * error.mean()
    factors = aware.column_steps
    assert torch.equal(factors, factors.half().float())  # two bytes each in the packed file
    assert factors[::16].max() < factors[1:16].min()


def test_without_statistics_columns_have_no_factors(profile):
    found = QuantizeAwq().apply(profile, ("unseen",))["unseen"]
    assert found.column_steps is None
