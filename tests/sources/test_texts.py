import sys

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from lilliput.errors import MissingExtraError, TaskError
from lilliput.sources import texts
from lilliput.task import Task

WORDS = ["[UNK]", "good", "bad", "film"]


def tokenizer():
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made


@pytest.fixture
def write(tmp_path):
    def writer(content, *, encoding="utf-8"):
        path = tmp_path / "texts.txt"
        path.write_bytes(content.encode(encoding))
        return path

    return writer


def test_labels_are_optional(write):
    bare = texts(write("good film\n\nbad\n"), tokenizer())
    assert len(bare) == 2
    assert bare[0]["input_ids"].tolist() == [1, 3]
    assert bare[1]["attention_mask"].tolist() == [1]
    labelled = texts(write("good\tyes\nbad\tno\nfilm\tyes\n"), tokenizer())
    assert labelled.label_names == ("no", "yes")
    assert [labelled[i][1] for i in range(3)] == [1, 0, 1]
    assert labelled.describe(0) == "good"


def test_numbers_are_classes_and_a_models_names_come_first(write):
    assert texts(write("good\t4\nbad\t0\n"), tokenizer()).labels == (4, 0)
    path = write("good\tpos\nbad\tneg\n")
    assert texts(path, tokenizer(), label_names=["pos", "neg"]).labels == (0, 1)
    with pytest.raises(TaskError, match=r"label 'neg' is none of the model's \['pos'\]"):
        texts(path, tokenizer(), label_names=["pos"])
    assert texts(write("good\t1\nbad\t0\n"), tokenizer(), label_names=["a", "b"]).labels == (1, 0)


def test_the_last_tab_separates_and_a_byte_order_mark_is_no_text(write):
    found = texts(write("﻿good\tfilm\t1\n"), tokenizer())
    assert found.lines == ("good\tfilm",)
    assert found.ids == ((1, 3),)


def test_texts_are_cut_and_the_users_tokenizer_is_left_alone(write):
    own = tokenizer()
    own.enable_padding(length=9)
    found = texts(write("good bad film good\n"), own, max_length=3)
    assert found.ids == ((1, 2, 3),)
    assert own.padding["length"] == 9
    assert own.truncation is None


def test_next_tokens_are_the_targets_of_a_language_model(write):
    inputs, target = texts(write("good film\n"), tokenizer(), predict_next=True)[0]
    assert target.tolist() == inputs["input_ids"].tolist() == [1, 3]


def test_a_tokenizer_from_its_file_or_folder(write, tmp_path):
    path = write("good film\n")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert texts(path, tmp_path / "tokenizer.json").ids == texts(path, str(tmp_path)).ids
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TaskError, match=r"the tokenizer .*tokenizer\.json failed"):
        texts(path, tmp_path)
    with pytest.raises(TaskError, match=r"nowhere is not a tokenizer\.json"):
        texts(path, tmp_path / "nowhere")
    with pytest.raises(TaskError, match="a int is not a tokenizer"):
        texts(path, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no texts"),
        ("\n  \n", "holds no texts"),
        ("good\t1\nbad\n", "line 2 has no label, others have"),
        ("good\n\n...\t1\n", "line 1 has no label"),
        ("\t1\n", "line 1 has no tokens"),
    ],
)
def test_files_that_cannot_be_used(write, content, message):
    with pytest.raises(TaskError, match=message):
        texts(write(content), tokenizer())


def test_files_that_cannot_be_read(write, tmp_path):
    with pytest.raises(TaskError, match="cannot be read as UTF-8"):
        texts(write("gut für\n", encoding="latin-1"), tokenizer())
    with pytest.raises(TaskError, match=r"nowhere\.txt cannot be read"):
        texts(tmp_path / "nowhere.txt", tokenizer())
    with pytest.raises(TaskError, match="max_length must be at least 1"):
        texts(write("good\n"), tokenizer(), max_length=0)


def test_without_tokenizers(write, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install lilliput\[text\]"):
        texts(write("good\n"), tmp_path)


def test_texts_serve_a_task(write):
    import torch

    found = texts(write("".join(f"{'good ' * (1 + n % 4)}\n" for n in range(12))), tokenizer())
    task = Task(model=torch.nn.Embedding(4, 2), examples=found)
    assert task.varying() == [(1,), (1,)]
    assert task.summary(1) == "good good"
    # four different texts: equal ones are duplicates and stay together
    parts = [{i % 4 for i in part} for part in vars(task.split()).values()]
    assert sum(map(len, parts)) == 4
