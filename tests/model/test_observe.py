"""Moments against independent hooks and hand formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lilliput.errors import TaskError
from lilliput.model.capture import capture, capture_or_hooks
from lilliput.model.hashes import state_hash
from lilliput.model.observe import observe


class Calls(nn.Module):
    """A module whose forward is a function of itself and its inputs."""

    def __init__(self, forward, **members):
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)
        self.function = forward

    def forward(self, *inputs, **named):
        return self.function(self, *inputs, **named)


def outer(rows):
    rows = rows.reshape(-1, rows.shape[-1]).double()
    return rows.t() @ rows


def close(found, expected):
    scale = expected.abs().max().clamp_min(1e-30)
    return float((found.double() - expected.double()).abs().max() / scale) < 1e-5


def moments_of(net, batches, **options):
    return observe(capture(net, batches[0], smallest=1), net, batches, **options)


def test_linear_sums_over_batches_and_positions():
    batches = [torch.randn(3, 5, 16), torch.randn(2, 5, 16)]
    found = moments_of(nn.Linear(16, 8), batches)["weight"]
    rows = torch.cat(batches).reshape(-1, 16)
    assert found.count == 25
    assert found.second.shape == (1, 16, 16)
    assert close(found.second[0], outer(rows))
    assert close(found.mean[0], rows.mean(0))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 5, stride=2, padding=2),
        nn.Conv2d(4, 6, 3, padding=1, dilation=2, groups=2),
        nn.Conv2d(4, 8, (1, 3), groups=4, padding="same"),
        nn.Conv3d(4, 2, 2, stride=(1, 2, 1)),
    ],
)
def test_convolution_moments_predict_the_output_power(layer):
    """tr(W H Wᵀ) of each group is the power of the convolution's output, whatever the geometry."""
    dims = layer.weight.ndim - 2
    batches = [torch.randn(2, 4, *[7, 6, 5][:dims]) for _ in range(2)]
    found = moments_of(nn.Sequential(layer), batches)["0.weight"]
    with torch.no_grad():
        out = torch.cat([layer(x) for x in batches]) - layer.bias.reshape(-1, *[1] * dims)
    groups, columns = layer.groups, layer.weight[0].numel()
    assert found.second.shape == (groups, columns, columns)
    assert found.count == out.numel() // out.shape[1]
    weight = layer.weight.detach().reshape(groups, -1, columns)
    power = (weight @ found.second * weight).sum(-1).reshape(-1)
    assert close(power, out.square().movedim(1, 0).flatten(1).sum(1))


def test_one_wide_convolution_equals_a_linear_layer():
    x = torch.randn(2, 16, 3, 3)
    found = moments_of(nn.Sequential(nn.Conv2d(16, 8, 1)), [x])["0.weight"]
    assert close(found.second[0], outer(x.movedim(1, -1)))


def test_large_maps_are_thinned_evenly_in_bounded_chunks(monkeypatch):
    x = torch.randn(2, 2, 64, 64)
    net = nn.Sequential(nn.Conv2d(2, 4, 3))
    full = moments_of(net, [x], most_positions=10**6)["0.weight"]
    thin = moments_of(net, [x], most_positions=1024)["0.weight"]
    assert (full.count, thin.count) == (2 * 62 * 62, 2 * 31 * 31)
    monkeypatch.setattr("lilliput.model.convolution.CHUNK_ELEMENTS", 2 * 9 * 62 * 5)
    again = moments_of(net, [x], most_positions=10**6)["0.weight"]
    assert close(again.second, full.second)
    assert again.count == full.count


def test_embedding_counts_tokens_and_a_tied_output_its_inputs():
    net = Calls(lambda m, x: m.head(m.words(x)), words=nn.Embedding(40, 8), head=nn.Linear(8, 40))
    net.head.weight = net.words.weight
    ids = torch.randint(0, 40, (3, 6))
    found = moments_of(net, [ids])["words.weight"]
    assert torch.equal(found.frequencies, torch.bincount(ids.reshape(-1), minlength=40).double())
    assert close(found.second[0], outer(net.words(ids).detach()))


def test_shared_modules_add_up():
    net = Calls(lambda m, x: m.layer(m.layer(x)), layer=nn.Linear(8, 8))
    x = torch.randn(4, 8)
    found = moments_of(net, [x])["layer.weight"]
    assert found.count == 8
    assert close(found.second[0], outer(x) + outer(net.layer(x).detach()))


def test_sites_that_read_the_same_values_share_one_tensor():
    net = Calls(lambda m, x: m.a(x) + m.b(x), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    found = moments_of(net, [torch.randn(4, 8)])
    assert found["a.weight"].second is found["b.weight"].second


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x @ m.p,
        lambda m, x: (m.p.t() @ x.mT).mT,
        lambda m, x: torch.einsum("btc,cd->btd", x, m.p),
    ],
)
def test_raw_parameters(function):
    net = Calls(function, p=nn.Parameter(torch.randn(8, 12)))
    x = torch.randn(3, 5, 8)
    assert close(moments_of(net, [x])["p"].second[0], outer(x))


def test_slices_of_rows_get_groups_and_slices_of_columns_get_blocks():
    rows = Calls(
        lambda m, x, y: F.linear(x, m.p[:4]) + F.linear(y, m.p[4:8]) + F.linear(y, m.p[8:]),
        p=nn.Parameter(torch.randn(12, 8)),
    )
    x, y = torch.randn(5, 8), torch.randn(5, 8)
    found = moments_of(rows, [(x, y)])["p"]
    assert found.count == 5
    for group, fed in enumerate((x, y, y)):
        assert close(found.second[group], outer(fed))
    columns = Calls(
        lambda m, x, y: F.linear(x, m.p[:, :8]) + F.linear(y, m.p[:, 8:]),
        p=nn.Parameter(torch.randn(12, 16)),
    )
    found = moments_of(columns, [(x, y)])["p"]
    assert found.count == 5
    assert close(found.second[0, :8, :8], outer(x))
    assert close(found.second[0, 8:, 8:], outer(y))
    assert not found.second[0, :8, 8:].any()


def lstm_by_hand(net, x):
    """Inputs and states of a bidirectional 2-layer LSTM from its cell equations."""
    seen, value = {}, x
    for layer in range(2):
        outputs = []
        for suffix in ("", "_reverse"):
            ih, hh, bi, bh = (
                getattr(net, f"{kind}_l{layer}{suffix}")
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = c = torch.zeros(x.shape[0], net.hidden_size)
            states, out = [], {}
            order = range(x.shape[1]) if not suffix else reversed(range(x.shape[1]))
            for t in order:
                states.append(h)
                i, f, g, o = (value[:, t] @ ih.t() + bi + h @ hh.t() + bh).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                out[t] = h
            seen[f"weight_hh_l{layer}{suffix}"] = torch.stack(states)
            seen[f"weight_ih_l{layer}{suffix}"] = value
            outputs.append(torch.stack([out[t] for t in range(x.shape[1])], 1))
        value = torch.cat(outputs, -1)
    return seen


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("how", [capture, capture_or_hooks])
def test_lstm_states_by_the_cell_equations(batch_first, how):
    lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=batch_first)

    def run(m, x):
        if how is capture_or_hooks and x.sum() > -1e9:  # cannot be captured
            x = x * 1
        return m.lstm(x)[0]

    net = Calls(run, lstm=lstm)
    x = torch.randn(3, 4, 6)
    given = x if batch_first else x.transpose(0, 1)
    captured = how(net, given, smallest=1)
    assert captured.how == ("graph" if how is capture else "hooks")
    found = observe(captured, net, [given])
    with torch.no_grad():
        expected = lstm_by_hand(lstm, x)
    assert set(found) == {f"lstm.{name}" for name in expected}
    for name, rows in expected.items():
        assert found[f"lstm.{name}"].count == 12
        assert close(found[f"lstm.{name}"].second[0], outer(rows)), name


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
def test_unrolled_cells(cell):
    states = []

    def run(m, x):
        h = c = torch.zeros(x.shape[0], 5)
        for t in range(3):
            states.append(h)
            new = m.cell(x[:, t], (h, c) if cell is nn.LSTMCell else h)
            h, c = new if cell is nn.LSTMCell else (new, c)
        return h

    net, x = Calls(run, cell=cell(6, 5)), torch.randn(2, 3, 6)
    found = moments_of(net, [x])
    states.clear()
    with torch.no_grad():
        net(x)
    assert close(found["cell.weight_ih"].second[0], outer(x))
    assert close(found["cell.weight_hh"].second[0], outer(torch.stack(states)))


@pytest.mark.parametrize("layer", [nn.GRU(6, 5, batch_first=True), nn.RNN(6, 5, batch_first=True)])
def test_other_recurrent_layers(layer):
    net, x = Calls(lambda m, x: m.layer(x)[0], layer=layer), torch.randn(2, 4, 6)
    found = moments_of(net, [x])
    out = layer(x)[0].detach()
    before = torch.cat([torch.zeros(2, 1, 5), out[:, :-1]], 1)
    assert close(found["layer.weight_hh_l0"].second[0], outer(before))


def attention(crossed):
    def run(m, x, y):
        if m.branch and x.sum() > 1e9:
            return x
        return m.mha(x, *((y, y) if crossed else (x, x)))[0]

    return Calls(run, mha=nn.MultiheadAttention(8, 2, batch_first=True), branch=False)


@pytest.mark.parametrize("crossed", [False, True])
def test_attention_through_modules_equals_attention_through_the_graph(crossed):
    net = attention(crossed)
    batch = (torch.randn(2, 5, 8), torch.randn(2, 7, 8))
    graph = moments_of(net, [batch])
    net.branch = True
    captured = capture_or_hooks(net, batch, smallest=1)
    assert captured.how == "hooks"
    modules = observe(captured, net, [batch])
    assert set(graph) == set(modules) == {"mha.in_proj_weight", "mha.out_proj.weight"}
    for name, found in graph.items():
        assert found.second.shape == modules[name].second.shape
        assert close(found.second, modules[name].second)
        assert found.count == modules[name].count
    packed = graph["mha.in_proj_weight"]
    assert packed.second.shape[0] == (3 if crossed else 1)
    assert close(packed.second[0], outer(batch[0]))
    assert close(packed.second[-1], outer(batch[crossed]))


def test_modules_path_counts_convolutions_and_embeddings():
    def run(m, x):
        hidden = m.words(x).mT
        return m.conv(hidden if x.sum() >= 0 else -hidden)

    conv = nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular")
    net = Calls(run, words=nn.Embedding(20, 8), conv=conv)
    ids = torch.randint(0, 20, (2, 6))
    captured = capture_or_hooks(net, ids, smallest=1)
    found = observe(captured, net, [ids, ids])
    assert captured.how == "hooks"
    assert captured.macs == {"words.weight": 0, "conv.weight": 6 * 8 * 24}
    assert found["words.weight"].frequencies.sum() == 24
    power = (net(ids).detach() - net.conv.bias[:, None].detach()).square().sum()
    weight = net.conv.weight.detach().reshape(8, -1)
    assert close((weight @ found["conv.weight"].second[0] * weight).sum() / 2, power)


def masked(net, ids, mask, **options):
    batch = {"ids": ids, "mask": mask}
    captured = capture(net, batch, dynamic={"ids": [1], "mask": [1]}, smallest=1)
    return observe(captured, net, [batch], mask="mask", **options)


@pytest.mark.parametrize("sizes", [(3, 5), (4, 4), (2, 6)])
@pytest.mark.parametrize(
    "function",
    [
        lambda m, h: m.layer(h),
        lambda m, h: m.layer(h.transpose(0, 1)).transpose(0, 1),
        lambda m, h: m.layer(h.reshape(-1, 8)).reshape(h.shape),
        lambda m, h: m.layer(h.transpose(0, 1).reshape(-1, 8)),
        lambda m, h: m.layer(h[:, None].expand(-1, 2, -1, -1)),
    ],
)
def test_masked_positions_are_not_counted_however_the_rows_lie(sizes, function):
    net = Calls(
        lambda m, ids, mask: function(m, m.words(ids) + mask[..., None]),
        words=nn.Embedding(20, 8),
        layer=nn.Linear(8, 8),
    )
    ids = torch.randint(0, 20, sizes)
    mask = torch.ones(sizes, dtype=torch.long)
    mask[0, 2:] = 0
    found = masked(net, ids, mask)
    rows = (net.words(ids) + mask[..., None]).detach()[mask.bool()]
    layer = found["layer.weight"]
    times = layer.count / len(rows)
    assert times in (1, 2)
    assert close(layer.second[0], times * outer(rows))
    seen = torch.bincount(ids[mask.bool()], minlength=20).double()
    assert torch.equal(found["words.weight"].frequencies, seen)


def test_positions_without_a_batch_axis_count_once_per_example():
    net = Calls(
        lambda m, ids, mask: m.words(ids) + m.places(torch.arange(ids.shape[1])),
        words=nn.Embedding(20, 8),
        places=nn.Embedding(10, 8),
    )
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    found = masked(net, torch.randint(0, 20, (4, 3)), mask)
    assert found["places.weight"].frequencies[:4].tolist() == [4, 2, 1, 0]


def test_pooled_rows_are_all_counted():
    net = Calls(
        lambda m, ids, mask: m.layer(m.words(ids)[:, 0]),
        words=nn.Embedding(20, 8),
        layer=nn.Linear(8, 8),
    )
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    assert masked(net, torch.randint(0, 20, (3, 3)), mask)["layer.weight"].count == 3


def test_a_bad_mask_is_refused():
    captured = capture(nn.Linear(16, 16), torch.randn(2, 16))
    with pytest.raises(TaskError, match=r"mask must be \(batch, positions\), got \(2,\)"):
        observe(captured, nn.Linear(16, 16), [torch.randn(2, 16)], mask=lambda x: x[:, 0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_names_the_site(bad):
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    with torch.no_grad():
        net[0].bias[3] = bad
    captured = capture(net, torch.randn(2, 16))
    with pytest.raises(TaskError, match=r"NaN or infinity flows into 1\.weight"):
        observe(captured, net, [torch.randn(2, 16)])


def test_no_examples_and_other_inputs_are_refused():
    net = nn.Linear(16, 16)
    captured = capture(net, torch.randn(2, 16))
    with pytest.raises(TaskError, match="no calibration examples"):
        observe(captured, net, [])
    with pytest.raises(TaskError, match="arranged otherwise"):
        observe(captured, net, [(torch.randn(2, 16), torch.randn(2, 16))])


def test_keywords_may_come_in_another_order():
    net = Calls(lambda m, x, y: m.layer(x - y), layer=nn.Linear(8, 8))
    x, y = torch.randn(2, 8), torch.randn(2, 8)
    captured = capture(net, {"x": x, "y": y}, smallest=1)
    found = observe(captured, net, [{"y": y, "x": x}])
    assert close(found["layer.weight"].second[0], outer(x - y))


def test_parts_are_fed_by_the_whole_model():
    body = Calls(lambda m, x, scale: m.layer(x) * scale, layer=nn.Linear(8, 8))
    net = Calls(lambda m, x: m.body(m.body(x * 2, scale=3), scale=3), body=body)
    x = torch.ones(2, 8)
    found = observe(capture(net, x, part="body", smallest=1), net, [x, x])
    assert found["body.layer.weight"].count == 8
    expected = outer(2 * x) + outer(3 * body.layer(2 * x).detach())
    assert close(found["body.layer.weight"].second[0], 2 * expected)


def test_a_constant_may_not_change_after_capture():
    net = Calls(lambda m, x, scale: m.layer(x) * scale, layer=nn.Linear(8, 8))
    captured = capture(net, (torch.ones(2, 8), 3), smallest=1)
    with pytest.raises(TaskError, match=r"was captured with the constant 3, got 4"):
        observe(captured, net, [(torch.ones(2, 8), 4)])


def test_state_and_training_flags_survive():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 16)
            self.register_buffer("seen", torch.zeros(16))

        def forward(self, x):
            self.seen.add_(1)
            x.mul_(2)
            return self.layer(x + self.seen)

    net, x = Counts(), torch.ones(2, 16)
    before = state_hash(net)
    captured = capture(net, x.clone())
    observe(captured, net, [x])
    assert state_hash(net) == before
    assert torch.equal(x, torch.ones(2, 16))


def test_how_far_inputs_and_results_reach_is_what_hooks_see():
    """Extremes per channel and of the histogram; BatchNorm and rectifier belong to the result."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1)).eval()
    net[1].running_mean += 0.3
    net[1].running_var *= 2
    batches = [torch.randn(2, 3, 8, 8), 3 * torch.randn(3, 3, 8, 8)]
    moments = moments_of(net, batches)
    seen = {"0.weight": ([], []), "3.weight": ([], [])}
    with torch.no_grad():
        for batch in batches:
            rectified = net[:3](batch)
            for name, pair in (
                ("0.weight", (batch, rectified)),
                ("3.weight", (rectified, net[3](rectified))),
            ):
                for kept, value in zip(seen[name], pair, strict=True):
                    kept.append(value.movedim(1, -1).reshape(-1, value.shape[1]))
    for name, (inputs, results) in seen.items():
        for rows, spread in ((inputs, moments[name].inputs), (results, moments[name].results)):
            rows = torch.cat(rows)
            assert torch.allclose(spread.high, rows.amax(0).clamp_min(0), atol=1e-5)
            assert torch.allclose(spread.low, rows.amin(0).clamp_max(0), atol=1e-5)
            histogram = spread.histogram
            assert histogram.high == pytest.approx(max(0.0, float(rows.max())), abs=1e-5)
            assert float(histogram.counts.sum()) + histogram.zeros == rows.numel()


def test_masked_positions_do_not_stretch_the_range():
    net = nn.Sequential(nn.Linear(4, 6))
    states, mask = torch.ones(2, 3, 4), torch.tensor([[1, 1, 0], [1, 0, 0]])
    states[mask == 0] = 99.0
    found = moments_of(net, [states], mask=lambda _: mask)["0.weight"].inputs
    assert found.high.tolist() == [1.0] * 4 and found.histogram.high == 1.0
