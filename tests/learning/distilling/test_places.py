"""Which places of an encoder belong to which of a smaller one."""

import pytest
import torch
from transformers import BertConfig, BertModel

from lilliput import Task
from lilliput.learning import Attention, Features, Training, distill
from lilliput.learning.distilling.places import Ends, matched


def encoder(layers: int, width: int, *, how: str, dropout: float = 0.0) -> BertModel:
    torch.manual_seed(layers)
    settings = BertConfig(
        vocab_size=40,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        attention_probs_dropout_prob=dropout,
        attn_implementation=how,
    )
    return BertModel(settings, add_pooling_layer=False).eval()


def sentences_task(model: BertModel) -> Task:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 9, (24,), generator=draw)
    examples = [
        {
            "input_ids": torch.randint(1, 40, (int(length),), generator=draw),
            "attention_mask": torch.ones(int(length), dtype=torch.int64),
        }
        for length in lengths
    ]
    return Task(model=model, examples=examples)


@pytest.mark.parametrize(
    ("how", "dropout", "sight"),
    [("eager", 0.0, "probabilities"), ("eager", 0.1, "values"), ("sdpa", 0.0, "values")],
)
def test_attention_is_found_and_learned(how, dropout, sight):
    teacher, student = encoder(4, 32, how=how), encoder(2, 16, how=how, dropout=dropout)
    task = sentences_task(teacher)
    found = Ends(task, teacher=teacher, student=student).placed(Attention())
    last = ".value" if sight == "values" else ""
    place = "encoder.layer.{}.attention.self" + last
    assert found.sight == sight
    assert found.pairs == tuple((place.format(a), place.format(b)) for a, b in ((1, 0), (3, 1)))
    task = Task(model=Answering(teacher), examples=task.examples)
    training = Training(steps=30, batch_size=6, rate=3e-3, every=10)
    learned = distill(
        task, student=Answering(student), losses=Attention(sight=sight), training=training
    )
    losses = [moment.loss for moment in learned.history[1:]]
    assert losses[-1] < losses[0]


class Answering(torch.nn.Module):
    """An encoder whose answer has four numbers, whatever its width."""

    def __init__(self, inner: BertModel) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask):
        found = self.inner(input_ids=input_ids, attention_mask=attention_mask)
        return found.last_hidden_state[:, 0, :4]


def test_blocks_of_encoders_are_matched_evenly_and_projected():
    teacher, student = encoder(4, 32, how="eager"), encoder(2, 16, how="eager")
    task = sentences_task(Answering(teacher))
    found = distill(
        task,
        student=Answering(student),
        losses=Features(),
        training=Training(steps=12, batch_size=6, rate=3e-3, every=4),
    )
    place = "inner.encoder.layer.{0}"
    wanted = ", ".join(f"{place.format(a)} to {place.format(b)}" for a, b in ((1, 0), (3, 1)))
    assert f"features compared: {wanted}" in found.notes
    assert found.history[-1].loss < found.history[1].loss


def test_places_are_matched_by_name_or_evenly():
    assert matched(["a", "b"], ["b", "a"]) == (("a", "a"), ("b", "b"))
    twelve = [f"t{place}" for place in range(12)]
    assert [pair[0] for pair in matched(twelve, ["x", "y", "z"])] == ["t3", "t7", "t11"]
    assert matched(["t"], ["x", "y", "z"]) == (("t", "z"),)
    assert matched([], ["x"]) == ()
