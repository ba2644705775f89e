import pytest
import torch

from lilliput.techniques import QuantizeGroups


def loss(profile, name, **fields):
    known = profile.sites[name]
    found = QuantizeGroups(**fields).apply(profile, (name,))[name]
    return known.damage(profile.matrix(name), known.site.matrix(found.decode()))


@pytest.mark.parametrize("name", ["linear", "turned", "conv", "table"])
def test_each_part_of_it_pays(profile, name):
    plain = loss(profile, name, bits=3, method="round", clip=False)
    clipped = loss(profile, name, bits=3, method="round")
    feedback = loss(profile, name, bits=3, refits=0)
    assert clipped < plain and feedback < 0.8 * clipped
    assert loss(profile, name, bits=3, refits=2) < feedback


def test_small_groups_lose_less(profile):
    lost = [loss(profile, "linear", bits=3, group=size) for size in (16, 32, 64, 128)]
    assert lost == sorted(lost) and lost[0] < 0.8 * lost[-1]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_fit_their_width(profile, bits, symmetric):
    for name in profile.sites:
        technique = QuantizeGroups(bits=bits, symmetric=symmetric, group=32)
        found = technique.apply(profile, (name,))[name]
        site = profile.sites[name].site
        assert found.codes.dtype == torch.uint8 and int(found.codes.max()) < 2**bits
        assert found.steps.shape == (site.rows, -(-site.columns // 32))
        assert (found.zeros is None) == symmetric
        assert (found.steps == found.steps.half().float()).all()
