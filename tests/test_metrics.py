import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lilliput.errors import TaskError
from lilliput.metrics import (
    METRICS,
    Accuracy,
    is_class_scores,
    metric_by_name,
    predicted_classes,
    score_rows,
)

SEEDS = st.integers(0, 10_000)


def scores(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed, classes, *shape):
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed + 1))


def score(name, outputs, targets, **more):
    metric = metric_by_name(name)
    return metric.aggregate(score_rows(metric, outputs, targets, **more))


@given(SEEDS, st.integers(1, 40), st.integers(2, 7))
def test_accuracy_counts_right_answers(seed, n, classes):
    outputs, truth = scores(seed, n, classes), labels(seed, classes, n)
    hits = sum(int(o.argmax()) == int(t) for o, t in zip(outputs, truth, strict=True))
    assert score("accuracy", outputs, truth) == pytest.approx(hits / n)
    assert score(f"top{classes}", outputs, truth) == 1.0


def test_top_k_counts_the_k_best():
    outputs = torch.tensor([[3.0, 2, 1, 0], [0, 1, 2, 3]])
    assert score("top2", outputs, [1, 1]) == 0.5
    with pytest.raises(TaskError, match="top5 needs at least 5 classes, got 4"):
        score("top5", outputs, [1, 1])


@given(SEEDS, st.integers(2, 30))
def test_f1_by_its_definition(seed, n):
    outputs, truth = scores(seed, n, 2), labels(seed, 2, n)
    answers = outputs.argmax(1)
    hit = int(((answers == 1) & (truth == 1)).sum())
    precision = hit / max(int((answers == 1).sum()), 1)
    recall = hit / max(int((truth == 1).sum()), 1)
    wanted = 2 * precision * recall / (precision + recall) if hit else 0.0
    assert score("f1", outputs, truth) == pytest.approx(wanted)


def test_macro_f1_averages_the_classes_that_occur():
    outputs = torch.eye(4)[[0, 0, 1, 1]]
    # class 0: P 1/2 R 1 -> 2/3; class 1: P 1 R 2/3 -> 4/5; classes 2 and 3 do not occur
    assert score("f1-macro", outputs, [0, 1, 1, 1]) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_binary_f1_refuses_more_classes():
    with pytest.raises(TaskError, match="f1-macro"):
        score("f1", torch.eye(3), [0, 1, 2])


@given(SEEDS, st.integers(1, 20))
def test_mse_matches_torch_with_and_without_a_trailing_dimension(seed, n):
    outputs, truth = scores(seed, n, 1), scores(seed + 1, n)
    wanted = float(functional.mse_loss(outputs[:, 0].double(), truth.double()))
    assert score("mse", outputs, truth) == pytest.approx(wanted)
    assert score("mse", outputs[:, 0], truth[:, None]) == pytest.approx(wanted)


def test_mse_refuses_to_broadcast():
    with pytest.raises(TaskError, match=r"targets have shape \(3, 2\), outputs \(3, 4\)"):
        score("mse", torch.zeros(3, 4), torch.zeros(3, 2))


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 4), st.integers(3, 6))
def test_perplexity_matches_torchs_cross_entropy(seed, n, length):
    logits, ids = scores(seed, n, length, 11), labels(seed, 11, n, length)
    loss = functional.cross_entropy(logits[:, :-1].reshape(-1, 11).double(), ids[:, 1:].flatten())
    assert score("perplexity", logits, ids) == pytest.approx(math.exp(float(loss)))


def test_padding_never_changes_a_perplexity():
    logits, ids = scores(0, 1, 5, 7), labels(0, 7, 1, 5)
    padded = torch.cat([logits, scores(9, 1, 3, 7)], 1)
    filled = torch.cat([ids, torch.zeros(1, 3, dtype=torch.int64)], 1)
    ignored = torch.cat([ids, torch.full((1, 3), -100)], 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]])
    wanted = score("perplexity", logits, ids)
    assert score("perplexity", padded, filled, mask=mask) == pytest.approx(wanted)
    assert score("perplexity", padded, ignored) == pytest.approx(wanted)


def test_perplexity_sums_tokens_over_examples_of_unequal_length():
    logits, ids = scores(0, 2, 5, 7), labels(0, 7, 2, 5)
    ids[1, 2:] = -100
    rows = score_rows(metric_by_name("perplexity"), logits, ids)
    assert rows[:, 1].tolist() == [4, 1]


@given(SEEDS, st.integers(1, 20))
def test_label_free_metrics_at_the_original_itself(seed, n):
    outputs = scores(seed, n, 5)
    assert score("agreement", outputs, outputs) == 1
    assert score("cosine", outputs, outputs) == pytest.approx(1)
    assert score("kl", outputs, outputs) == pytest.approx(0, abs=1e-12)


@given(SEEDS)
def test_cosine_and_kl_match_torch(seed):
    new, old = scores(seed, 6, 3, 4), scores(seed + 1, 6, 3, 4)
    wanted = functional.cosine_similarity(new.flatten(1).double(), old.flatten(1).double())
    assert score("cosine", new, old) == pytest.approx(float(wanted.mean()), abs=1e-9)
    p, q = old.double().log_softmax(-1), new.double().log_softmax(-1)
    kl = functional.kl_div(q, p, log_target=True, reduction="sum") / 18
    assert score("kl", new, old) == pytest.approx(float(kl))


@pytest.mark.parametrize("name", ["agreement", "cosine", "kl"])
def test_masked_positions_do_not_count(name):
    old, new = scores(0, 2, 3, 4), scores(1, 2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    wanted = score(name, new, old, mask=mask)
    other = new.clone()
    other[0, 2], other[1, 1:] = 100.0, -50.0
    assert score(name, other, old, mask=mask) == pytest.approx(wanted)
    assert score(name, other, old) != pytest.approx(wanted)


def test_two_zero_outputs_are_equal():
    assert score("cosine", torch.zeros(1, 3), torch.zeros(1, 3)) == 1
    assert score("cosine", torch.zeros(1, 3), torch.ones(1, 3)) == 0


@pytest.mark.parametrize("name", ["accuracy", "f1", "agreement", "cosine", "kl"])
def test_a_nan_output_gives_a_nan_row_and_no_other(name):
    outputs, reference = scores(0, 4, 2), scores(1, 4, 2)
    outputs[2, 0] = math.nan
    metric = metric_by_name(name)
    targets = reference if metric.reference == "original" else labels(0, 2, 4)
    bad = np.isnan(score_rows(metric, outputs, targets)).any(axis=1)
    assert bad.tolist() == [False, False, True, False]


def test_segmentation_has_its_classes_second():
    outputs, truth = scores(0, 2, 3, 4, 5), labels(0, 3, 2, 4, 5)
    rows = score_rows(Accuracy(), outputs, truth)
    assert rows[:, 1].tolist() == [20, 20]
    assert rows[0, 0] == int((outputs[0].argmax(0) == truth[0]).sum())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1, 3], r"label 3 is out of range, the model has 3 classes \(0 to 2\)"),
        ([0, -1, 2], "label -1 is out of range"),
        ([0, -100, 2], "label -100 is out of range"),
        ([0.0, 1.0, 2.0], "labels must be integers, got float32"),
        (["a", "b", "c"], "labels must be integers, got str"),
        (None, "labels must be integers, got NoneType"),
        ([True, False, True], "labels must be integers, got bool"),
        ([0, 1], r"labels have shape \(2,\), expected \(3,\)"),
        ([[1, 0, 0]] * 3, r"labels have shape \(3, 3\), expected \(3,\)"),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "f1-macro"])
def test_labels_that_do_not_fit(name, targets, message):
    with pytest.raises(TaskError, match=message):
        score(name, torch.eye(3), targets)


def test_scores_that_are_none():
    with pytest.raises(TaskError, match=r"needs class scores .* the output is \(3, 1\)"):
        score("accuracy", torch.zeros(3, 1), [0, 1, 1])


def test_names_and_the_nearest_one():
    assert [metric_by_name(metric.name) for metric in METRICS] == list(METRICS)
    assert metric_by_name("top7") == Accuracy(k=7)
    with pytest.raises(TaskError, match=r'no metric "acuracy".*did you mean "accuracy"'):
        metric_by_name("acuracy")
    with pytest.raises(TaskError, match="the names are accuracy, top5, f1"):
        metric_by_name("zzz")


@dataclass(frozen=True)
class Own:
    width: int = 1
    name: str = "own"
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    reference: str = "targets"

    def rows(self, outputs, targets):
        if self.width < 0:
            raise ValueError("no luck")
        return np.zeros((len(outputs) + self.width - 1,))

    def aggregate(self, rows):
        return 0.0


def test_the_users_own_metric_is_checked():
    assert score_rows(Own(), torch.zeros(3, 2), [0, 0, 0], mask=torch.ones(3, 2)).shape == (3, 1)
    with pytest.raises(TaskError, match=r"metric own: rows\(\) gave .*\(4, 1\) for 3 examples"):
        score_rows(Own(width=2), torch.zeros(3, 2), [0, 0, 0])
    with pytest.raises(TaskError, match=r"metric own failed: ValueError: no luck .*line \d+"):
        score_rows(Own(width=-1), torch.zeros(3, 2), [0, 0, 0])


def test_class_scores_are_told_from_embeddings():
    assert is_class_scores(scores(0, 4, 3))
    assert is_class_scores(scores(0, 4, 3).softmax(1))
    assert not is_class_scores(functional.normalize(scores(0, 4, 3)))
    assert not is_class_scores(scores(0, 4, 1))
    assert not is_class_scores(scores(0, 4, 3, 2))
    assert predicted_classes(torch.eye(3)).tolist() == [0, 1, 2]
    assert predicted_classes(torch.zeros(3, 1)) is None
