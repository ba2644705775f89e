"""Layers that are nearly equal get one weight, in the file once."""

import copy
from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

from lilliput.errors import PlanError
from lilliput.model.encodings import Dense, Grid
from lilliput.model.profiles import Profile, SiteProfile
from lilliput.model.sites import Site
from lilliput.records import Plan
from lilliput.runtime.onnx_bind import bind
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import export_original
from lilliput.stages.apply import apply
from lilliput.techniques import PruneDamage, QuantizeFeedback, ShareLayers
from lilliput.techniques.ties import common_weight

NAMES = ("0.weight", "1.weight", "2.weight", "3.weight")


def side(seed):
    mix = torch.randn(96, 32, generator=torch.Generator().manual_seed(seed))
    return (mix.t() @ mix / 96)[None]


@pytest.fixture(scope="module")
def net():
    """Two layers that are nearly equal, one of their shape that is not, one of another."""
    torch.manual_seed(0)
    made = nn.Sequential(*(nn.Linear(32, 32) for _ in range(3)), nn.Linear(32, 8))
    made[1].weight.data = made[0].weight.data + 0.01 * torch.randn(32, 32)
    return made.eval()


@pytest.fixture(scope="module")
def bindings(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "original.onnx"
    exported = export_original(net, torch.randn(2, 32), path)
    return bind(exported, {}, dict(net.named_parameters()))


@pytest.fixture
def known(net):
    values = {name: value.detach() for name, value in net.named_parameters()}
    sites = {
        name: SiteProfile(
            Site(name, "linear", tuple(values[name].shape), *values[name].shape),
            side(place),
            torch.rand(len(values[name])) + 0.5,
            sensitivity=0.1 * (place + 1),
        )
        for place, name in enumerate(NAMES)
    }
    return Profile("0", sites, values)


def test_only_what_is_nearly_equal_is_tied(known):
    found = ShareLayers().apply(known, NAMES)
    assert found.keys() == {"0.weight", "1.weight"}
    assert found["0.weight"] is found["1.weight"] and isinstance(found["0.weight"], Dense)
    assert ShareLayers(amount=0.2).apply(known, NAMES) == {}  # a layer is more than that
    assert ShareLayers(most=0.0).apply(known, NAMES) == {}


def test_all_of_one_shape_are_tied_where_they_may(known):
    found = ShareLayers(amount=0.9, most=1.0).apply(known, NAMES)
    assert found.keys() == set(NAMES[:3]) and len({id(each) for each in found.values()}) == 1


def test_the_common_weight_costs_least(known):
    pair = NAMES[:2]
    plain = Profile("0", {n: replace(s, weights=torch.ones(32)) for n, s in known.sites.items()},
                    known.parameters)  # fmt: skip
    common = common_weight(plain, pair)

    def cost(value):
        return sum(
            plain.sites[name].sensitivity * plain.sites[name].damage(plain.matrix(name), value)
            for name in pair
        )

    least = cost(common)
    assert least < cost(plain.matrix(pair[0])) and least < cost(plain.matrix(pair[1]))
    for seed in range(5):
        noise = torch.randn(32, 32, generator=torch.Generator().manual_seed(seed))
        assert cost(common + 1e-3 * noise) > least


def test_options_name_the_nearest_of_the_same_shape(known):
    options = {name: ShareLayers().options(known, name) for name in NAMES}
    assert options["3.weight"] == ()
    (near,), (far,) = options["0.weight"], options["2.weight"]
    assert near.damage < 0.01 * far.damage and near.storage == 2 * 32 * 32


@pytest.mark.parametrize("then", [(), (QuantizeFeedback(step=0.5),)])
def test_the_file_holds_the_common_weight_once(bindings, known, then, tmp_path):
    steps = (ShareLayers().step_of(NAMES), *(each.step_of(NAMES) for each in then))
    encodings = apply(Plan(model_hash="0", steps=steps), known)
    assert write_encodings(bindings, encodings, tmp_path / "tied.onnx") == []
    tensors = onnx.load(tmp_path / "tied.onnx").graph.initializer
    square = [t for t in tensors if list(t.dims) == [32, 32]]
    assert len(square) == 2  # of three layers
    if then:
        assert all(isinstance(found, Grid) for found in encodings.values())
        assert encodings["0.weight"] is encodings["1.weight"]
        return
    whole, tied = bindings.original.path.stat(), (tmp_path / "tied.onnx").stat()
    assert tied.st_size < whole.st_size - 3900


def test_quantizing_a_common_weight_makes_up_for_all_its_readers(known):
    """Rounding for both together costs less than rounding for one and giving it to both."""
    step = QuantizeFeedback(step=0.8)
    steps = (ShareLayers().step_of(NAMES[:2]), step.step_of(NAMES[:2]))
    found = apply(Plan(model_hash="0", steps=steps), known)
    common = ShareLayers().apply(known, NAMES[:2])["0.weight"].weight

    def cost(value):
        return sum(
            known.sites[n].sensitivity * known.sites[n].damage(known.matrix(n), value)
            for n in NAMES[:2]
        )

    alone = copy.copy(known.sites["0.weight"])
    single = Profile("0", {"0.weight": alone}, {"0.weight": common})
    for_one = step.apply(single, ("0.weight",))["0.weight"]
    assert cost(found["0.weight"].decode()) < cost(for_one.decode())


def test_what_was_pruned_is_not_tied(known):
    steps = (PruneDamage().step_of(NAMES[:2]), ShareLayers().step_of(NAMES[:2]))
    with pytest.raises(PlanError, match="share_layers cannot take"):
        apply(Plan(model_hash="0", steps=steps), known)
