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
from lilliput.techniques import STRUCTURAL, TABLE, PruneDamage, from_step
from lilliput.tensor.pruning import BLOCK

pytestmark = pytest.mark.parametrize(
    "kind", [kind for kind in TABLE if kind.family not in STRUCTURAL], ids=lambda kind: kind.name
)


def strengths(kind, profile, where):
    """The technique at its default, its mildest, a middle and its coarsest strength."""
    options = kind().options(profile, where)
    chosen = [options[0], options[len(options) // 2], options[-1]]
    return [kind(), *(kind(**option.settings) for option in chosen)]


def names(kind, profile):
    """What a technique can take; it has no options for the rest."""
    every = profile.parameters if kind.takes_any else profile.sites
    if kind not in TAKEN:
        TAKEN[kind] = {name for name in profile.sites if kind().options(profile, name)}
    return [name for name in every if name in TAKEN[kind] or name not in profile.sites]


TAKEN: dict[object, set[str]] = {}  # all profiles here are equal


def bytes_of(encoding):
    if isinstance(encoding, LowRank):
        return [encoding.shape, encoding.transposed, *map(bytes_of, encoding.factors)]
    parts = [getattr(encoding, field.name) for field in dataclasses.fields(encoding)]
    return [p.numpy().tobytes() if isinstance(p, torch.Tensor) else p for p in parts]


def test_nothing_it_is_given_changes(kind, make_profile, hash_of):
    profile = make_profile()
    before = hash_of(profile)
    for name in names(kind, profile):
        for technique in strengths(kind, profile, name):
            technique.apply(profile, (name,))
    assert hash_of(profile) == before


def test_the_same_bytes_twice(kind, make_profile):
    profile, again = make_profile(), make_profile()
    for name in names(kind, profile):
        assert kind().options(profile, name) == kind().options(again, name)
        for technique in strengths(kind, profile, name):
            one = technique.apply(profile, (name,))
            two = technique.apply(again, (name,))
            assert one.keys() == two.keys()
            assert all(bytes_of(one[n]) == bytes_of(two[n]) for n in one), name


def test_what_becomes_of_a_weight_is_a_finite_weight(kind, profile):
    for name in names(kind, profile):
        for technique in strengths(kind, profile, name):
            for got, encoding in technique.apply(profile, (name,)).items():
                assert isinstance(encoding, Dense | Grid | Grouped | Masked | Codebook | LowRank)
                value = encoding.decode()
                assert got == name and value.shape == profile.parameters[name].shape
                assert value.dtype == torch.float32 and torch.isfinite(value).all()
                assert value.is_contiguous()


def test_only_what_is_named_changes_and_each_by_itself(kind, profile):
    every = names(kind, profile)
    together = kind().apply(profile, every)
    assert together.keys() <= set(every)
    some = every[1::2]
    assert kind().apply(profile, some).keys() == together.keys() & set(some)
    for name in some:
        alone = kind().apply(profile, (name,))
        assert alone.keys() == {name} & together.keys()
        same = all(bytes_of(alone[n]) == bytes_of(together[n]) for n in alone)
        assert same or kind().joint, name
    assert kind().apply(profile, ()) == {}


def test_only_a_joint_technique_asks_what_sites_are_worth(kind, profile):
    """Otherwise a plan could not be replayed without probing."""
    assert kind().joint or "together" not in kind.model_fields or kind(together=True).joint
    if kind().joint:
        return
    sites = {n: dataclasses.replace(s, sensitivity=None) for n, s in profile.sites.items()}
    unprobed, where = dataclasses.replace(profile, sites=sites), names(kind, profile)
    known, unknown = kind().apply(profile, where), kind().apply(unprobed, where)
    assert known.keys() == unknown.keys()
    assert all(bytes_of(known[n]) == bytes_of(unknown[n]) for n in known)


def test_options_run_from_mild_to_coarse(kind, profile):
    for name in names(kind, profile):
        options = kind().options(profile, name)
        damage, storage = ([getattr(o, f) for o in options] for f in ("damage", "storage"))
        assert options and all(np.isfinite([*damage, *storage]))
        assert min(damage) >= 0 and min(storage) > 0
        assert damage == sorted(damage), name
        assert storage == sorted(storage, reverse=True), name
        installed = [option.installed for option in options]
        assert installed == sorted(installed, reverse=True)


def test_what_an_option_predicts_is_what_it_gets(kind, profile):
    for name in set(names(kind, profile)) & profile.sites.keys():
        known = profile.sites[name]
        for option in kind().options(profile, name):
            found = kind(**option.settings).apply(profile, (name,)).get(name)
            if not isinstance(found, Grid):
                continue
            assert known.site.size * found.codes.element_size() == option.installed or (
                abs(int(found.codes.abs().max()) - 127) < 20  # right at the edge of int8
            ), name
            actual = code_bytes(found.codes.numpy())
            assert abs(option.storage - actual) <= 0.1 * actual + 60, (name, option.settings)


def test_the_amount_asked_for_is_the_amount_got(kind, profile):
    if kind.family != "prune":
        return
    for name in names(kind, profile):
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


def test_a_product_holds_what_the_amount_leaves_and_no_rank_more_would_fit(kind, profile):
    if kind.family != "factorize":
        return
    for name in names(kind, profile):
        size = profile.sites[name].site.size
        for amount in (0.25, 0.5, 0.9):
            (found,) = kind(amount=amount).apply(profile, (name,)).values()
            numbers = sum(factor.decode().numel() for factor in found.factors)
            rank = max(max(factor.decode().shape[:2]) for factor in found.factors)
            assert numbers <= (1 - amount) * size or rank == 1, (name, amount)
            assert numbers >= (1 - amount) * size - 0.1 * size, (name, amount)


def test_what_cannot_become_a_product_is_refused_by_name(kind, profile):
    if kind.family != "factorize":
        return
    able = names(kind, profile)
    assert able and {"grouped", "depthwise"}.isdisjoint(able)
    for name in profile.sites.keys() - able:
        with pytest.raises(PlanError, match=f"cannot take {name}, "):
            kind().apply(profile, (*able, name))


def test_what_an_earlier_step_removed_stays_removed(kind, profile):
    """Of the factors of a product, the same share."""
    if Masked not in kind.follows:
        return
    for name in names(kind, profile) if kind.family == "factorize" else sorted(profile.sites):
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


def test_a_plan_brings_it_back(kind, profile):
    for name in names(kind, profile):
        for technique in strengths(kind, profile, name):
            step = technique.step_of((name,))
            text = plan_to_toml(Plan(model_hash="0", steps=(step,)))
            assert set(tomllib.loads(text)["steps"][0].get("settings", {})) <= set(
                kind.model_fields
            )
            (back,) = plan_from_toml(text).steps
            assert back == step and from_step(back) == technique


def test_a_replayed_plan_gives_the_same_bytes(kind, make_profile):
    profile, again = make_profile(), make_profile()
    where = tuple(names(kind, profile))
    plan = Plan(model_hash=profile.model_hash, steps=(kind().step_of(where),))
    one, two = apply(plan, profile), apply(plan_from_toml(plan_to_toml(plan)), again)
    assert one.keys() == two.keys()
    assert all(bytes_of(one[name]) == bytes_of(two[name]) for name in one)
