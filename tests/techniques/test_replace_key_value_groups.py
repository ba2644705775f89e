"""replace_key_value_groups: pooled heads, counted by the model itself or handed out."""

import pytest
import torch
from tests.techniques.shaped import Encoder, Listener, Vision, made
from torch import nn

from lilliput.errors import ShapeError
from lilliput.shapes.standins import SharedHeads
from lilliput.techniques import ReplaceKeyValueGroups


def test_heads_are_pooled_and_handed_out_where_the_model_does_not_count():
    model, inputs, batches = made(Vision)
    found = ReplaceKeyValueGroups().change(model, inputs, batches=batches)
    key = found.model.blocks[1].key
    assert isinstance(key, SharedHeads) and key.linear.weight.shape == (16, 32)
    wanted = model.blocks[1].key.weight.reshape(2, 2, 8, 32).mean(1).reshape(16, 32)
    assert torch.allclose(key.linear.weight, wanted)
    assert type(found.model.blocks[1].query) is nn.Linear and found.how == "class"
    assert all(check.equal for check in found.checks)


def test_equal_heads_are_pooled_exactly():
    model, inputs, batches = made(Encoder)
    for part in (model.key, model.value):
        heads = part.weight.data.reshape(2, 2, 8, 32)
        part.weight.data = heads[:, :1].expand_as(heads).reshape(32, 32).clone()
        part.bias.data = part.bias.data.reshape(2, 2, 8)[:, :1].expand(2, 2, 8).reshape(32).clone()
    found = ReplaceKeyValueGroups().change(model, inputs, batches=batches)
    assert torch.allclose(found.model(inputs), model(inputs), atol=1e-5)
    assert sum(p.numel() for p in found.model.parameters()) == (
        sum(p.numel() for p in model.parameters()) - 2 * 16 * 33
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_llama_counts_its_groups_itself(attention):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=50,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    inputs = {"input_ids": torch.randint(0, 50, (2, 6)), "use_cache": False}
    found = ReplaceKeyValueGroups().change(model.eval(), inputs)
    layer = found.model.model.layers[0].self_attn
    assert layer.k_proj.weight.shape == (8, 32) and layer.num_key_value_groups == 4
    assert found.model.config.num_key_value_heads == 2 == config.num_key_value_heads // 2
    assert model.model.layers[0].self_attn.num_key_value_groups == 2
    tokens = found.model.generate(inputs["input_ids"], max_new_tokens=3, do_sample=False)
    assert tokens.shape == (2, 9)


@pytest.mark.parametrize(
    ("build", "pooled", "where", "message"),
    [
        (Vision, 3, ("blocks.1",), "blocks.1 cannot be replaced: 3 does not divide its 4 heads"),
        (Listener, 2, (), "no attention that can be replaced"),
    ],
)
def test_what_cannot_be_pooled_is_refused(build, pooled, where, message):
    model, inputs, batches = made(build)
    with pytest.raises(ShapeError, match=message):
        ReplaceKeyValueGroups(pooled=pooled).change(model, inputs, where=where, batches=batches)


def test_one_product_for_all_three_is_refused():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    with pytest.raises(ShapeError, match="are made by one product"):
        ReplaceKeyValueGroups().change(model, torch.randn(2, 5, 16))
