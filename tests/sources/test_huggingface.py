import json
import sys

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from lilliput.errors import CheckpointError, MissingExtraError, TaskError
from lilliput.evaluation import evaluating
from lilliput.sources import TaskArguments, hugging_face, task_from_arguments
from lilliput.validation import check_task

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "good", "bad", "film", "the", "a", "is"]
TINY = {
    "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32,
}  # fmt: skip


def save(folder, model):
    model.save_pretrained(folder)
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)
    return folder


def bert(kind, **more):
    torch.manual_seed(0)
    return kind(transformers.BertConfig(**TINY, **more))


def corpus(tmp_path, *, labelled=False):
    lines = [f"the film is {'good ' * (1 + n % 5)}{WORDS[n % 8]} {n}" for n in range(24)]
    words = ["no", "yes"]
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{x}\t{words[n % 2]}\n" if labelled else f"{x}\n"
                            for n, x in enumerate(lines)))  # fmt: skip
    return str(path)


def test_a_plain_encoder_is_pooled_over_real_tokens(tmp_path):
    folder = save(tmp_path / "hf", bert(transformers.BertModel))
    found = hugging_face(folder)
    assert found.role == "encoder"
    assert "the mean over its tokens" in found.notes[0]
    ids, mask = torch.tensor([[2, 4, 5]]), torch.ones(1, 3, dtype=torch.int64)
    with evaluating(found.model) as model:
        alone = model(ids, mask)
        padded = model(torch.tensor([[2, 4, 5, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]]))
        hidden = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(alone, padded)
    torch.testing.assert_close(alone, hidden.mean(1))
    assert not any("pooler" in name for name, _ in found.model.named_parameters())


def test_sentence_transformers_settings_are_honoured(tmp_path):
    folder = save(tmp_path / "hf", bert(transformers.BertModel))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    found = hugging_face(folder)
    assert "the first token's vector, scaled to length 1" in found.notes[0]
    ids, mask = torch.tensor([[2, 4]]), torch.ones(1, 2, dtype=torch.int64)
    with evaluating(found.model) as model:
        first = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        torch.testing.assert_close(model(ids, mask), torch.nn.functional.normalize(first))


def test_a_classifier_from_the_command_line(tmp_path):
    names = {"id2label": {0: "yes", 1: "no"}, "label2id": {"yes": 0, "no": 1}}
    kind = transformers.BertForSequenceClassification
    folder = save(tmp_path / "hf", bert(kind, num_labels=2, **names))
    texts = corpus(tmp_path, labelled=True)
    task = task_from_arguments(TaskArguments(target=str(folder), texts=texts))
    assert check_task(task).name == "accuracy"
    assert task.label_names == ("yes", "no")
    assert [task.example(i).target for i in range(2)] == [1, 0]
    bare = task_from_arguments(TaskArguments(target=str(folder), texts=corpus(tmp_path)))
    assert check_task(bare).name == "agreement"
    assert bare.varying() == [(1,), (1,)]


def test_a_causal_language_model_is_scored_by_perplexity(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**TINY, num_key_value_heads=1)
    folder = save(tmp_path / "hf", transformers.LlamaForCausalLM(config))
    task = task_from_arguments(TaskArguments(target=str(folder), texts=corpus(tmp_path)))
    assert check_task(task).name == "perplexity"
    batch = next(task.batches(range(4), 4))
    with evaluating(task.model) as model:
        raw = task.run(model, batch.inputs)
    assert task.output_index(raw) == 0
    assert task.pick(raw).shape == (*batch.mask.shape, len(WORDS))


def test_without_texts_there_is_still_something_to_capture_with(tmp_path):
    folder = save(tmp_path / "hf", bert(transformers.BertModel))
    task = task_from_arguments(TaskArguments(target=str(folder)))
    assert check_task(task) is None
    assert task.varying() == [(1,), (1,)]


def test_a_half_precision_checkpoint_is_said_to_be_one(tmp_path):
    folder = save(tmp_path / "hf", bert(transformers.BertModel).half())
    found = hugging_face(folder)
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    assert found.notes[0].startswith("The checkpoint holds float16")


def test_a_missing_head_is_no_random_head(tmp_path):
    folder = save(tmp_path / "hf", bert(transformers.BertModel))
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"lacks classifier\.bias and would start with random"
    ):
        hugging_face(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"architectures": None}, CheckpointError, "names no architecture"),
        ({"architectures": ["NoSuchModel"]}, CheckpointError, "does not know NoSuchModel"),
        ({"architectures": ["ViTForImageClassification"]}, TaskError, "does not take one text"),
        ({"auto_map": {"AutoModel": "x.Y"}}, CheckpointError, "brings its own code"),
        ({"is_encoder_decoder": True}, TaskError, "does not take one text"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, change, error, message):
    config = {"architectures": ["BertModel"], "model_type": "bert", **TINY, **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        hugging_face(tmp_path)


def test_folders_that_are_damaged(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        hugging_face(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="is not a configuration"):
        hugging_face(tmp_path)
    config = {"architectures": ["BertModel"], "model_type": "bert", **TINY}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TaskError, match=r"loading .* failed: OSError"):
        hugging_face(tmp_path)


def test_without_transformers(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install lilliput\[text\]"):
        hugging_face(tmp_path)
