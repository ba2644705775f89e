"""Sites of toy networks, the fallbacks, and that the user's model stays as it was."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput.errors import CaptureError, InputError, TaskError
from lilliput.model.capture import capture, capture_or_hooks
from lilliput.model.hashes import model_hash, state_hash


class Calls(nn.Module):
    """A module whose forward is a function of itself and its inputs."""

    def __init__(self, forward, **members):
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)
        self.function = forward

    def forward(self, *inputs, **named):
        return self.function(self, *inputs, **named)


def weight(*shape):
    return nn.Parameter(torch.randn(*shape))


def only(captured):
    (site,) = captured.sites.values()
    return site


def test_linear_sites_come_in_order_of_use_with_macs():
    net = Calls(lambda m, x: m.first(m.second(x)), first=nn.Linear(32, 8), second=nn.Linear(16, 32))
    found = capture(net, torch.randn(3, 5, 16))
    assert list(found.sites) == ["second.weight", "first.weight"]
    assert found.macs == {"second.weight": 5 * 16 * 32, "first.weight": 5 * 32 * 8}
    assert found.sites["first.weight"].shape == (8, 32)
    assert (found.how, found.frozen, found.warnings) == ("graph", {}, ())
    assert found.parameters == 32 * 8 + 8 + 16 * 32 + 32


@pytest.mark.parametrize(
    ("layer", "inputs", "columns", "groups", "macs"),
    [
        (nn.Conv1d(16, 32, 5, padding=2), (2, 16, 9), 80, 1, 9 * 32 * 80),
        (nn.Conv2d(16, 32, 3, stride=2, groups=4), (2, 16, 9, 9), 36, 4, 16 * 32 * 36),
        (nn.Conv2d(32, 32, 3, groups=32, padding="same"), (2, 32, 4, 4), 9, 32, 16 * 32 * 9),
        (nn.Conv3d(4, 8, 3, dilation=2), (2, 4, 6, 6, 6), 108, 1, 8 * 8 * 108),
    ],
)
def test_convolutions(layer, inputs, columns, groups, macs):
    found = capture(nn.Sequential(layer), torch.randn(*inputs))
    site = only(found)
    assert (site.kind, site.rows, site.columns) == ("conv", layer.out_channels, columns)
    assert (site.groups, found.macs["0.weight"]) == (groups, macs)


def test_embedding_tied_with_the_output_is_one_site():
    net = Calls(lambda m, x: m.head(m.words(x)), words=nn.Embedding(40, 8), head=nn.Linear(8, 40))
    net.head.weight = net.words.weight
    site = only(capture(net, torch.randint(0, 40, (2, 6))))
    assert (site.name, site.kind, site.ties, site.uses) == (
        "words.weight",
        "embedding",
        ("head.weight",),
        2,
    )
    assert (site.rows, site.columns, site.transposed) == (40, 8, False)


def test_shared_module_is_used_twice():
    net = Calls(lambda m, x: m.layer(m.layer(x).relu()), layer=nn.Linear(16, 16))
    found = capture(net, torch.randn(2, 16))
    assert only(found).uses == 2
    assert found.macs["layer.weight"] == 2 * 256


@pytest.mark.parametrize(
    ("function", "kind", "transposed", "rows"),
    [
        (lambda m, x: x @ m.p, "matmul", True, 32),
        (lambda m, x: x @ m.q.t(), "matmul", False, 32),
        (lambda m, x: (m.q @ x.mT).mT, "matmul", False, 32),
        (lambda m, x: F.linear(x, m.p.transpose(0, 1)), "linear", True, 32),
        (lambda m, x: F.linear(x, m.q.view(4, 8, 16).reshape(32, 16)), "linear", False, 32),
        (lambda m, x: torch.addmm(x.new_zeros(32), x[0], m.p), "linear", True, 32),
        (lambda m, x: torch.einsum("btc,cd->btd", x, m.p), "matmul", True, 32),
        (lambda m, x: torch.einsum("dc,btc->btd", m.q, x), "matmul", False, 32),
        (lambda m, x: torch.einsum("btc,hkc->bhtk", x, m.r), "matmul", False, 32),
    ],
)
def test_raw_parameters_are_traced_through_views(function, kind, transposed, rows):
    net = Calls(function, p=weight(16, 32), q=weight(32, 16), r=weight(4, 8, 16))
    site = only(capture(net, torch.randn(2, 5, 16)))
    assert (site.kind, site.transposed, site.rows, site.columns) == (kind, transposed, rows, 16)
    value = dict(net.named_parameters())[site.name]
    assert site.matrix(value).shape == (32, 16)
    assert torch.equal(site.parameter(site.matrix(value)), value)


def test_recurrent_weights_of_all_layers_and_directions():
    lstm = nn.LSTM(16, 12, num_layers=2, bidirectional=True, batch_first=True)
    net = Calls(lambda m, x: m.lstm(x)[0], lstm=lstm)
    found = capture(net, torch.randn(2, 5, 16))
    matrices = {name for name, p in net.named_parameters() if p.ndim == 2}
    assert set(found.sites) == matrices
    assert {site.kind for site in found.sites.values()} == {"recurrent"}
    assert found.macs["lstm.weight_hh_l1_reverse"] == 5 * 48 * 12


def test_recurrent_projection_is_frozen():
    lstm = nn.LSTM(16, 32, proj_size=16, batch_first=True)
    found = capture(Calls(lambda m, x: m.lstm(x)[0], lstm=lstm), torch.randn(2, 5, 16))
    assert set(found.sites) == {"lstm.weight_ih_l0", "lstm.weight_hh_l0"}
    assert "aten.lstm" in found.frozen["lstm.weight_hr_l0"]


def test_packed_attention_projection_has_a_group_per_source():
    attention = nn.MultiheadAttention(16, 4, batch_first=True).requires_grad_(False)
    crossed = Calls(lambda m, x, y: m.mha(x, y, y, need_weights=False)[0], mha=attention)
    itself = Calls(lambda m, x: m.mha(x, x, x, need_weights=False)[0], mha=attention)
    sites = capture(crossed, (torch.randn(2, 5, 16), torch.randn(2, 7, 16))).sites
    assert sites["mha.in_proj_weight"].groups == 3
    sites = capture(itself, torch.randn(2, 5, 16)).sites
    assert sites["mha.in_proj_weight"].groups == 1
    assert set(sites) == {"mha.in_proj_weight", "mha.out_proj.weight"}


def test_encoder_layer_without_gradients_shows_its_projections():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).requires_grad_(False)
    found = capture(layer, torch.randn(2, 5, 16))
    assert len(found.sites) == 4
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: F.conv_transpose1d(x, m.p[:, :, None]), "conv_transpose1d"),
        (lambda m, x: x[:, :, :1] * m.p, "aten.mul.Tensor in .*test_capture.py:"),
        (lambda m, x: F.linear(x.mT, (m.p * 2).t()), "aten.mul.Tensor"),
        (lambda m, x: F.linear(x.mT, (m.p @ m.q).t()), "aten.matmul"),
        (lambda m, x: F.linear(x.mT, m.p.t().reshape(16, 32).t()), "no .out, in. matrix"),
        (lambda m, x: (x.mT @ m.p) @ m.p.t(), "two different matrices"),
    ],
)
def test_other_reads_freeze_a_weight_with_a_reason(function, reason):
    net = Calls(function, p=weight(16, 32), q=weight(32, 32))
    found = capture(net, torch.randn(2, 16, 5))
    assert "p" not in found.sites
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found.frozen["p"])


def test_small_and_one_dimensional_weights_are_left_alone():
    net = Calls(lambda m, x: m.b(m.n(m.a(x))), a=nn.Linear(4, 4), n=nn.LayerNorm(4), b=weight)
    net.b = nn.Linear(4, 64)
    assert list(capture(net, torch.randn(2, 4)).sites) == ["b.weight"]
    assert len(capture(net, torch.randn(2, 4), smallest=1).sites) == 2


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batch_stays_open(batch):
    found = capture(nn.Linear(16, 16), torch.randn(batch, 16))
    assert found.warnings == ()
    graph = found.program.module()
    assert graph(torch.randn(7, 16)).shape == (7, 16)


@pytest.mark.parametrize("dynamic", [{"x": (1,)}, {"x": {1: "time"}}, [(1,)]])
def test_named_axes_stay_open(dynamic):
    net = Calls(lambda m, x: m.layer(x), layer=nn.Linear(16, 16))
    net.forward = lambda x: net.function(net, x)
    found = capture(net, {"x": torch.randn(2, 5, 16)}, dynamic=dynamic)
    assert found.program.module()(x=torch.randn(3, 9, 16)).shape == (3, 9, 16)


def test_fixed_batch_is_said():
    net = Calls(lambda m, x: m.layer(x.reshape(2, 16)), layer=nn.Linear(16, 16))
    assert "fixes its batch size at 2" in " ".join(capture(net, torch.randn(2, 16)).warnings)


def branches(m, x):
    y = m.layer(x)
    return y if x.sum() > 0 else m.words(x.argmax(-1))  # the line that cannot be captured


def branching():
    return Calls(branches, layer=nn.Linear(16, 16), words=nn.Embedding(20, 16))


def test_what_cannot_be_captured_names_the_line():
    line = branches.__code__.co_firstlineno + 2
    with pytest.raises(
        CaptureError, match=rf"test_capture.py:{line} in branches: .*data-dependent"
    ):
        capture(branching(), torch.randn(2, 16))


def test_what_does_not_run_is_the_tasks_fault():
    with pytest.raises(TaskError, match=r"does not run on the example inputs: .*shapes cannot"):
        capture(nn.Linear(16, 16), torch.randn(2, 15))


def test_modules_are_the_second_fallback():
    found = capture_or_hooks(branching(), torch.ones(2, 16))
    assert (found.how, found.program) == ("hooks", None)
    assert "weights-only path" in found.warnings[0]
    assert list(found.sites) == ["layer.weight"]
    assert found.macs == {"layer.weight": 256}
    assert "no module" in found.frozen["words.weight"]
    with pytest.raises(CaptureError, match="without a graph"):
        found.graph  # noqa: B018


def test_part_of_a_model_that_cannot_be_captured():
    net = Calls(
        lambda m, x: m.backbone(x, scale=2.0) if x.sum() > 0 else x,
        backbone=Calls(lambda m, x, scale: m.layer(x) * scale, layer=nn.Linear(16, 16)),
    )
    found = capture(net, torch.ones(1, 5, 16), part="backbone", dynamic=[(1,)])
    assert (list(found.sites), found.part) == (["backbone.layer.weight"], "backbone")
    with pytest.raises(InputError, match="no part 'back'"):
        capture(net, torch.ones(1, 5, 16), part="back")
    with pytest.raises(CaptureError, match="never calls its part 'backbone'"):
        capture(net, -torch.ones(1, 5, 16), part="backbone")


def test_the_model_stays_as_it_was():
    net = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 16))
    net[1].eval()
    before = state_hash(net)
    capture(net, torch.randn(4, 16))
    capture_or_hooks(net, torch.randn(4, 16))
    assert state_hash(net) == before
    assert [module.training for module in net] == [True, False, True, True]
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_hashes_tell_architecture_and_values_apart():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    assert model_hash(a) == model_hash(b) != model_hash(nn.Linear(4, 5))
    assert state_hash(a) != state_hash(b)
    b.load_state_dict(a.state_dict())
    assert state_hash(a) == state_hash(b)
    b.eval()
    assert state_hash(a) != state_hash(b)
