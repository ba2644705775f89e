import pytest
import torch

from lilliput.model.encodings import Codebook
from lilliput.techniques import PruneMagnitude, ShareValues

SITES = ("linear", "turned", "conv", "grouped")


def cost(profile, name, book):
    known = profile.sites[name]
    return known.damage(profile.matrix(name), known.site.matrix(book.decode()))


@pytest.mark.parametrize("count", [2, 16, 256])
def test_no_more_values_than_asked_for(profile, count):
    for name, book in ShareValues(values=count).apply(profile, SITES).items():
        assert isinstance(book, Codebook) and book.codes.dtype == torch.uint8
        assert book.values.shape == (count,) and int(book.codes.max()) < count
        assert book.decode().shape == profile.parameters[name].shape


def test_knowing_what_errors_cost_costs_less(profile):
    for name in SITES:
        plain, weighted, compensated = (
            cost(profile, name, ShareValues(values=8, method=method).apply(profile, (name,))[name])
            for method in ("plain", "weighted", "compensated")
        )
        assert weighted < 1.02 * plain and compensated < 0.75 * plain, name


def test_values_can_be_shared_across_sites(profile):
    found = ShareValues(values=32, together=True).apply(profile, SITES)
    books = {tuple(book.values.tolist()) for book in found.values()}
    assert len(books) == 1
    apart = ShareValues(values=32).apply(profile, SITES)
    assert len({tuple(book.values.tolist()) for book in apart.values()}) == len(SITES)
    for name in SITES:
        assert cost(profile, name, found[name]) < 2 * cost(profile, name, apart[name])


@pytest.mark.parametrize("method", ["plain", "weighted", "compensated"])
def test_what_was_removed_is_the_value_zero(profile, method):
    made = PruneMagnitude(amount=0.5).apply(profile, SITES)
    for name, book in ShareValues(values=4, method=method).apply(profile, SITES, made=made).items():
        assert len(book.values) == 4 and 0.0 in book.values.tolist()
        assert not book.decode()[~made[name].mask].any()
