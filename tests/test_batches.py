import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lilliput.batches import (
    call,
    call_form,
    collate_inputs,
    collate_targets,
    digest,
    flatten_inputs,
    summarize,
)
from lilliput.errors import TaskError


class Sum(torch.nn.Module):
    def forward(self, a, b=None):
        return a if b is None else a + 10 * b


def test_each_form_of_input_calls_the_model_in_its_way():
    one, two = torch.ones(2), torch.ones(2) * 2
    assert call(Sum(), one).tolist() == [1, 1]
    assert call(Sum(), (one, two)).tolist() == [21, 21]
    assert call(Sum(), [one, two]).tolist() == [21, 21]
    assert call(Sum(), {"b": one, "a": two}).tolist() == [12, 12]
    assert call_form(one) == "model(x)"
    assert call_form((one, two)) == "model(*inputs) with 2 inputs"
    assert call_form({"a": one}) == "model(a=...)"


def test_inputs_flatten_as_torch_export_takes_them():
    inputs = {"b": torch.tensor([1.0]), "a": torch.tensor([2.0])}
    program = torch.export.export(Sum(), (), inputs, strict=False)
    names = [spec.arg.name for spec in program.graph_signature.input_specs]
    flat = dict(zip(names, flatten_inputs(inputs), strict=True))
    assert {name: array.item() for name, array in flat.items()} == {"b": 1.0, "a": 2.0}
    assert [a.item() for a in flatten_inputs((inputs["a"], inputs["b"]))] == [2.0, 1.0]


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=6))
def test_variable_lengths_are_padded_with_zeros_at_the_end(lists):
    batch = collate_inputs([{"x": torch.tensor(values)} for values in lists])["x"]
    assert batch.shape == (len(lists), max(map(len, lists)))
    for row, values in zip(batch, lists, strict=True):
        assert row.tolist() == values + [0] * (batch.shape[1] - len(values))


def test_numbers_arrays_and_tuples_collate():
    assert collate_inputs([1, 2]).tolist() == [1, 2]
    assert collate_inputs([np.float64(1.5), np.float64(2)]).dtype == torch.float32
    assert collate_inputs([np.zeros((2, 3)), np.ones((2, 3))]).shape == (2, 2, 3)
    first, second = collate_inputs([(1, torch.zeros(3)), (2, torch.ones(3))])
    assert (first.tolist(), second.shape) == ([1, 2], (2, 3))
    assert collate_inputs([torch.tensor(1.0), torch.tensor(2.0)]).shape == (2,)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([{"a": 1}, {"b": 1}], "different input names"),
        ([(1, 2), (1,)], "different numbers of inputs"),
        ([torch.zeros(2), torch.zeros(2, 2)], "different numbers of dimensions"),
        (["text"], "type str cannot become a tensor"),
        ([object()], "type object cannot become a tensor"),
    ],
)
def test_inputs_that_do_not_fit_together(inputs, message):
    with pytest.raises(TaskError, match=message):
        collate_inputs(inputs)


def test_targets():
    assert collate_targets([None, None]) is None
    assert collate_targets([1, np.int64(2)]).tolist() == [1, 2]
    ragged = collate_targets([torch.tensor([1, 2]), torch.tensor([3])])
    assert ragged.tolist() == [[1, 2], [3, -100]]
    assert collate_targets(["a", "b"]) == ["a", "b"]
    assert len(collate_targets([torch.zeros(2), torch.zeros(3)])) == 2
    with pytest.raises(TaskError, match="some examples have a target and some have none"):
        collate_targets([1, None])


def test_digests_tell_values_types_and_shapes_apart():
    different = [
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.int32),
        np.zeros(4, dtype=np.float16),
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        (torch.zeros(2), torch.zeros(2)),
        0,
        0.0,
        "0",
        b"0",
        None,
        torch.zeros(0),
        torch.zeros(1, dtype=torch.bool),
        torch.zeros(1, dtype=torch.bfloat16),
    ]
    assert len({digest(value) for value in different}) == len(different)
    assert digest(torch.arange(6).reshape(2, 3).t()) == digest(
        torch.tensor([[0, 3], [1, 4], [2, 5]])
    )
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(TaskError, match="bytes of a object are not known"):
        digest(object())


def test_summaries():
    assert summarize(torch.tensor([[0.0, 1.0], [2.0, 3.5]])) == "2 x 2 numbers from 0 to 3.5"
    assert summarize({"a": np.arange(3), "b": 7}) == "a: 3 numbers from 0 to 2, b: 7"
    assert len(summarize("x" * 500)) == 200
    assert summarize(torch.zeros(0)) == "0 numbers"
