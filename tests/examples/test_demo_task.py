import pytest
import torch
from torch import nn

from examples import demo_task


def test_sentences_are_rated_and_each_appears_once():
    sentences = demo_task.labelled_sentences()
    labels = [label for _, label in sentences]
    assert len(sentences) == len({text for text, _ in sentences}) == 10_070
    assert 0.49 < sum(labels) / len(labels) < 0.51


def test_missing_archive_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="make setup"):
        demo_task.rated_sentences("tweets", tmp_path)


def test_split_is_disjoint_and_depends_on_the_seed():
    parts, others = demo_task.split(0), demo_task.split(1)
    assert [len(part) for part in parts[:3]] == [2_000, 500, 750]
    assert len(parts[3]) >= 6_800
    texts = [set(part.texts) for part in parts]
    assert len(set.union(*texts)) == sum(map(len, texts))
    assert parts[3].texts != others[3].texts
    assert parts[3].describe(0) == parts[3].texts[0]


def test_head_is_fitted_to_separable_points_from_any_start():
    features = torch.tensor([[1.0, 0.2], [0.8, -0.1], [-1.0, 0.1], [-0.7, 0.0]])
    labels = torch.tensor([1, 1, 0, 0])
    heads = [nn.Linear(2, 2), nn.Linear(2, 2)]
    for head in heads:
        demo_task.fit_head(head, features, labels)
    assert heads[0](features).argmax(1).tolist() == labels.tolist()
    assert torch.equal(heads[0].weight, heads[1].weight)


@pytest.mark.slow
def test_classifier_is_right_about_most_sentences():
    encoder = demo_task.SentenceEncoder().eval()
    fit, _, search, _ = demo_task.split(0)
    features = demo_task.embed(encoder, fit.inputs[:300]).clone()
    model = demo_task.SentenceClassifier(encoder).eval()
    demo_task.fit_head(model.head, features, torch.tensor(fit.labels[:300]))
    answers = demo_task.embed(model, search.inputs[:150]).argmax(1)
    assert (answers == torch.tensor(search.labels[:150])).float().mean() > 0.6
