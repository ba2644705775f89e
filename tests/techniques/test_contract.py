"""What every technique on weights promises, held over THE TABLE: a new row is tested at once."""

import dataclasses
import tomllib

import numpy as np
import pytest
import torch

from lilliput.coding import code_bytes
from lilliput.errors import PlanError
from lilliput.model.encodings import Codebook, Dense, Grid, Grouped, LowRank, Masked
from lilliput.plans import plan_from_toml, plan_to_toml
from lilliput.records import Plan
from lilliput.stages.apply import apply
from lilliput.techniques import LEARNING, STRUCTURAL, TABLE, PruneDamage, from_step
from lilliput.tensor.pruning import BLOCK

pytestmark = pytest.mark.parametrize(
    "kind",
    [kind for kind in TABLE if kind.family not in STRUCTURAL | LEARNING],
    ids=lambda kind: kind.name,
)


@dataclasses.dataclass
class Tried:
    """A technique on a profile of its own: all there is to try, and what became of it.

    Attributes:
        hashes: Of the profile, before and after.
        options: Of each name that it can take.
        strengths: Of each of these: its default, its mildest, a middle and its coarsest.
        made: What those gave, in that order.
    """

    hashes: tuple[str, str]
    options: dict[str, tuple]
    strengths: dict[str, list]
    made: dict[str, list[dict]]


@pytest.fixture
def tried(kind, make_profile, hash_of):
    """Computed once for all tests: what is slow here is the techniques themselves."""
    if kind not in KNOWN:
        profile = make_profile()
        before = hash_of(profile)
        every = profile.parameters if kind.takes_any else profile.sites
        found = {name: kind().options(profile, name) for name in every}
        options = {name: each for name, each in found.items() if each}
        strong = {name: strengths(kind, each) for name, each in options.items()}
        made = {name: [t.apply(profile, (name,)) for t in each] for name, each in strong.items()}
        KNOWN[kind] = Tried((before, hash_of(profile)), options, strong, made)
    return KNOWN[kind]


KNOWN: dict[object, Tried] = {}


def strengths(kind, options):
    """Each technique once: the default may be one of the others."""
    chosen = [options[0], options[len(options) // 2], options[-1]]
    found = [kind(), *(kind(**option.settings) for option in chosen)]
    return [technique for place, technique in enumerate(found) if technique not in found[:place]]


def bytes_of(encoding):
    if isinstance(encoding, LowRank):
        return [encoding.shape, encoding.transposed, *map(bytes_of, encoding.factors)]
    parts = [getattr(encoding, field.name) for field in dataclasses.fields(encoding)]
    return [p.numpy().tobytes() if isinstance(p, torch.Tensor) else p for p in parts]


def test_nothing_it_is_given_changes(tried):
    before, after = tried.hashes
    assert after == before


def test_the_same_bytes_twice(kind, tried, make_profile):
    again = make_profile()
    for name, techniques in tried.strengths.items():
        assert kind().options(again, name) == tried.options[name]
        for technique, one in zip(techniques, tried.made[name], strict=True):
            two = technique.apply(again, (name,))
            assert one.keys() == two.keys()
            assert all(bytes_of(one[n]) == bytes_of(two[n]) for n in one), name


def test_what_becomes_of_a_weight_is_a_finite_weight(tried, profile):
    for name, every in tried.made.items():
        for got, encoding in (pair for made in every for pair in made.items()):
            assert isinstance(encoding, Dense | Grid | Grouped | Masked | Codebook | LowRank)
            value = encoding.decode()
            assert got == name and value.shape == profile.parameters[name].shape
            assert value.dtype == torch.float32 and torch.isfinite(value).all()
            assert value.is_contiguous()


def test_only_what_is_named_changes_and_each_by_itself(kind, tried, profile):
    every = list(tried.options)
    together = kind().apply(profile, every)
    assert together.keys() <= set(every)
    some = every[1::2]
    assert kind().apply(profile, some).keys() == together.keys() & set(some)
    for name in some:
        alone = tried.made[name][0]
        assert alone.keys() == {name} & together.keys()
        same = all(bytes_of(alone[n]) == bytes_of(together[n]) for n in alone)
        assert same or kind().joint, name
    assert kind().apply(profile, ()) == {}


def test_only_a_joint_technique_asks_what_sites_are_worth(kind, tried, profile):
    """Otherwise a plan could not be replayed without probing."""
    assert kind().joint or "together" not in kind.model_fields or kind(together=True).joint
    if kind().joint:
        return
    sites = {n: dataclasses.replace(s, sensitivity=None) for n, s in profile.sites.items()}
    unprobed, where = dataclasses.replace(profile, sites=sites), list(tried.options)
    known, unknown = kind().apply(profile, where), kind().apply(unprobed, where)
    assert known.keys() == unknown.keys()
    assert all(bytes_of(known[n]) == bytes_of(unknown[n]) for n in known)


def test_options_run_from_mild_to_coarse(kind, tried, profile):
    for name, options in tried.options.items():
        damage, storage = ([getattr(o, f) for o in options] for f in ("damage", "storage"))
        assert options and all(np.isfinite([*damage, *storage]))
        assert min(damage) >= 0 and min(storage) > 0
        assert damage == sorted(damage), name
        assert storage == sorted(storage, reverse=True), name
        installed = [option.installed for option in options]
        assert installed == sorted(installed, reverse=True)


def test_what_an_option_predicts_is_what_it_gets(kind, tried, profile):
    for name in tried.options.keys() & profile.sites.keys():
        if not any(isinstance(each.get(name), Grid) for each in tried.made[name]):
            continue
        known = profile.sites[name]
        for option in tried.options[name]:
            found = kind(**option.settings).apply(profile, (name,)).get(name)
            if not isinstance(found, Grid):
                continue
            assert known.site.size * found.codes.element_size() == option.installed or (
                abs(int(found.codes.abs().max()) - 127) < 20  # right at the edge of int8
            ), name
            actual = code_bytes(found.codes.numpy())
            assert abs(option.storage - actual) <= 0.1 * actual + 60, (name, option.settings)


def test_the_amount_asked_for_is_the_amount_got(kind, tried, profile):
    if kind.family != "prune":
        return
    for name in tried.options:
        for amount in (0.0, 0.25, 0.5, 0.9):
            (found,) = kind(amount=amount).apply(profile, (name,)).values()
            assert isinstance(found, Masked) and found.mask.shape == found.weight.shape
            assert not found.weight[~found.mask].any()
            assert int((~found.mask).sum()) == sum(
                round(amount * size) for size in parts(kind, profile.sites[name].site)
            ), (name, amount)


def parts(kind, site):
    """Numbers of weights of which a technique removes the amount each."""
    if kind.name in ("prune_wanda", "prune_surgeon"):
        return [site.columns] * site.rows
    if kind.name in ("prune_sparsegpt", "prune_sensitivity"):
        widths = [min(BLOCK, site.columns - start) for start in range(0, site.columns, BLOCK)]
        return [site.rows // site.groups * width for width in widths] * site.groups
    return [site.size]


def test_a_product_holds_what_the_amount_leaves_and_no_rank_more_would_fit(kind, tried, profile):
    if kind.family != "factorize":
        return
    for name in tried.options:
        size = profile.sites[name].site.size
        for amount in (0.25, 0.5, 0.9):
            (found,) = kind(amount=amount).apply(profile, (name,)).values()
            numbers = sum(factor.decode().numel() for factor in found.factors)
            rank = max(max(factor.decode().shape[:2]) for factor in found.factors)
            assert numbers <= (1 - amount) * size or rank == 1, (name, amount)
            assert numbers >= (1 - amount) * size - 0.1 * size, (name, amount)


def test_what_cannot_become_a_product_is_refused_by_name(kind, tried, profile):
    if kind.family != "factorize":
        return
    able = list(tried.options)
    assert able and {"grouped", "depthwise"}.isdisjoint(able)
    for name in profile.sites.keys() - able:
        with pytest.raises(PlanError, match=f"cannot take {name}, "):
            kind().apply(profile, (*able, name))


def test_what_an_earlier_step_removed_stays_removed(kind, tried, profile):
    """Of the factors of a product, the same share."""
    if Masked not in kind.follows:
        return
    for name in list(tried.options) if kind.family == "factorize" else sorted(profile.sites):
        made = PruneDamage(amount=0.5).apply(profile, (name,))
        before = bytes_of(made[name])
        found = kind().apply(profile, (name,), made=made)[name]
        assert bytes_of(made[name]) == before
        if isinstance(found, LowRank):
            for factor in found.factors:
                few = factor.mask[0].numel() < 16  # three taps: two go, or one
                near = pytest.approx(0.5, abs=0.2 if few else 0.05)
                assert float(factor.mask.float().mean()) == near
                assert not factor.weight[~factor.mask].any()
            continue
        assert not found.decode()[~made[name].mask].any()


def test_a_plan_brings_it_back(kind, tried, profile):
    for name in tried.options:
        for technique in tried.strengths[name]:
            step = technique.step_of((name,))
            text = plan_to_toml(Plan(model_hash="0", steps=(step,)))
            assert set(tomllib.loads(text)["steps"][0].get("settings", {})) <= set(
                kind.model_fields
            )
            (back,) = plan_from_toml(text).steps
            assert back == step and from_step(back) == technique


def test_a_replayed_plan_gives_the_same_bytes(kind, tried, make_profile):
    profile, again = make_profile(), make_profile()
    where = tuple(tried.options)
    plan = Plan(model_hash=profile.model_hash, steps=(kind().step_of(where),))
    one, two = apply(plan, profile), apply(plan_from_toml(plan_to_toml(plan)), again)
    assert one.keys() == two.keys()
    assert all(bytes_of(one[name]) == bytes_of(two[name]) for name in one)
