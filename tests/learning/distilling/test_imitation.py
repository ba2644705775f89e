"""The losses of distillation against hand formulas."""

import pytest
import torch
from torch.nn import functional as F

from lilliput.errors import TrainingError
from lilliput.learning import Attention, Blocks, Features, Logits, Relations
from lilliput.learning.distilling.comparing import Compared
from lilliput.learning.distilling.features import Projections
from lilliput.tensor.imitation import angles, attention_map, distances


def compared(outputs, answers, **fields) -> Compared:
    answers = answers if answers.ndim > outputs.ndim else answers[None]
    shares = fields.pop("shares", torch.full((len(answers),), 1 / len(answers)))
    return Compared(
        outputs=outputs, answers=answers, shares=shares, **({"answer": "logits"} | fields)
    )


def drawn(*sizes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def test_logits_are_the_divergence_at_a_temperature_times_its_square():
    outputs, answers = drawn(5, 4), drawn(5, 4, seed=1)
    wanted = 9 * F.kl_div(
        (outputs / 3).log_softmax(1), (answers / 3).softmax(1), reduction="batchmean"
    )
    assert Logits(temperature=3.0).loss(compared(outputs, answers)) == pytest.approx(float(wanted))
    assert float(Logits().loss(compared(answers, answers))) == pytest.approx(0, abs=1e-6)


def test_probabilities_are_softened_as_the_logits_they_came_from():
    outputs, answers = drawn(5, 4), drawn(5, 4, seed=1)
    by_logits = Logits(temperature=2.0).loss(compared(outputs, answers))
    softmaxes = compared(outputs.softmax(1), answers.softmax(1), answer="probabilities")
    assert float(Logits(temperature=2.0).loss(softmaxes)) == pytest.approx(float(by_logits), 1e-4)


def test_classes_of_pixels_stand_on_the_second_axis():
    outputs, answers = drawn(2, 4, 3, 3), drawn(2, 4, 3, 3, seed=1)
    flat = [one.movedim(1, -1).reshape(-1, 4) for one in (outputs, answers)]
    found = Logits().loss(compared(outputs, answers))
    assert float(found) == pytest.approx(float(Logits().loss(compared(*flat))), 1e-5)


@pytest.mark.parametrize("answer", ["logits", "numbers"])
def test_padded_positions_are_left_out(answer):
    outputs, answers = drawn(2, 5, 4), drawn(2, 5, 4, seed=1)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    found = Logits().loss(compared(outputs, answers, mask=mask, answer=answer))
    real = mask.bool()
    alone = Logits().loss(compared(outputs[real], answers[real], answer=answer))
    assert float(found) == pytest.approx(float(alone), 1e-5)


def test_numbers_are_compared_by_squares_and_several_teachers_by_their_mean():
    outputs, answers = drawn(6, 3), drawn(2, 6, 3, seed=1)
    shares = torch.tensor([0.25, 0.75])
    seen = compared(outputs, answers, shares=shares, answer="numbers")
    mean = 0.25 * answers[0] + 0.75 * answers[1]
    assert float(Logits().loss(seen)) == pytest.approx(float(F.mse_loss(outputs, mean)), 1e-5)
    probable = compared(outputs, answers, shares=shares)
    mixed = 0.25 * answers[0].softmax(1) + 0.75 * answers[1].softmax(1)
    wanted = F.kl_div(outputs.log_softmax(1), mixed, reduction="batchmean")
    assert float(Logits(temperature=1.0).loss(probable)) == pytest.approx(float(wanted), 1e-5)


def test_targets_are_mixed_in_by_their_share():
    outputs, answers = drawn(5, 4), drawn(5, 4, seed=1)
    seen = compared(outputs, answers, told=lambda: torch.tensor(7.0))
    plain = float(Logits().loss(seen))
    assert float(Logits(targets=0.25).loss(seen)) == pytest.approx(0.75 * plain + 0.25 * 7)


def test_maps_of_attention_are_compared_by_direction_alone():
    student, teacher = drawn(3, 4, 6, 6), drawn(3, 8, 6, 6, seed=1)
    loss = Attention(sight="maps", pairs=(("t", "s"),))

    def between(one, other):
        seen = compared(drawn(3, 2), drawn(3, 2), learned={"s": one}, taught={"t": other})
        return float(loss.loss(seen))

    wanted = (attention_map(student) - attention_map(teacher)).square().sum(1).mean()
    assert between(student, teacher) == pytest.approx(float(wanted), 1e-5)
    assert between(3 * teacher, teacher) == pytest.approx(0, abs=1e-6)
    assert attention_map(student).norm(dim=1).allclose(torch.ones(3))


def test_values_need_no_equal_widths_and_see_no_padding():
    loss = Attention(sight="values", pairs=(("t", "s"),))
    student, teacher = drawn(2, 5, 8), drawn(2, 5, 12, seed=1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

    def between(one, other):
        seen = compared(
            drawn(2, 2), drawn(2, 2), learned={"s": one}, taught={"t": other}, mask=mask
        )
        return float(loss.loss(seen))

    assert between(student, teacher) > 0.01
    assert between(teacher, teacher) == pytest.approx(0, abs=1e-6)


def test_relations_do_not_change_when_embeddings_are_moved_turned_and_stretched():
    teacher = drawn(6, 5)
    turned = torch.linalg.qr(drawn(5, 5, seed=2)).Q
    moved = 3 * teacher @ turned + 1
    seen = compared(moved, teacher, answer="numbers")
    assert float(Relations().loss(seen)) == pytest.approx(0, abs=1e-5)
    other = compared(drawn(6, 5, seed=1), teacher, answer="numbers")
    assert float(Relations().loss(other)) > 0.05
    one = compared(drawn(1, 5).requires_grad_(), teacher[:1], answer="numbers")
    assert float(Relations().loss(one).detach()) == 0


def test_distances_and_angles_are_those_of_plain_loops():
    points = drawn(4, 3)
    apart = [[float((a - b).norm()) for b in points] for a in points]
    mean = sum(map(sum, apart)) / 12
    assert distances(points).allclose(torch.tensor(apart) / mean, atol=1e-5)
    found = angles(points)
    for corner, one, other in ((0, 1, 2), (3, 0, 1), (2, 2, 1)):
        ways = [F.normalize(points[end] - points[corner], dim=0) for end in (one, other)]
        assert float(found[corner, one, other]) == pytest.approx(float(ways[0] @ ways[1]), abs=1e-5)


def test_gradients_of_relations_are_numbers_where_examples_are_equal():
    points = torch.ones(4, 3, requires_grad=True)
    Relations().loss(compared(points, drawn(4, 3), answer="numbers")).backward()
    assert bool(points.grad.isfinite().all())


def test_features_are_projected_where_widths_differ_and_averaged_down_where_sizes_do():
    pair = ("t", "s")
    for student, teacher, kind in (
        ((2, 4), (2, 6), "Linear"),
        ((2, 4, 8, 8), (2, 6, 4, 4), "Conv2d"),
        ((2, 5, 4), (2, 5, 6), "Linear"),
        ((2, 4, 9), (2, 6, 9), "Conv1d"),
        ((2, 6, 8, 8), (2, 6, 8, 8), None),
    ):
        sizes = {pair: (torch.Size(student), torch.Size(teacher))}
        project = Projections(sizes, mask=None, seed=0)
        one, other = project(pair, drawn(*student), drawn(*teacher))
        assert one.shape == other.shape and one.shape[1] == min(teacher[1], one.shape[1])
        assert [type(each).__name__ for each in project.maps.values()] == ([kind] if kind else [])
        seen = compared(
            drawn(2, 3),
            drawn(2, 3),
            learned={"s": drawn(*student)},
            taught={"t": drawn(*teacher, seed=1)},
            project=project,
        )
        wanted = F.mse_loss(one, drawn(*other.shape, seed=1)) if other.shape == teacher else None
        found = float(Features(pairs=(pair,)).loss(seen).detach())
        if wanted is not None:
            size = drawn(*teacher, seed=1).square().mean()
            assert found == pytest.approx(float(wanted.detach() / size), 1e-4)


def test_blocks_take_turns_for_their_share_of_the_steps():
    blocks = Blocks(share=0.5, pairs=(("a", "a"), ("b", "b")))
    assert [blocks.turn(done) for done in (0.0, 0.2, 0.25, 0.49, 0.5, 0.9)] == [
        *(0, 0, 1, 1, None, None)
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        (Logits, {"temperature": 0}, r"temperature = 0 is out of range \(allowed is \(0, inf\)\)"),
        (Logits, {"temperature": -1.5}, r"temperature = -1.5 is out of range"),
        (Logits, {"temperature": "hot"}, r"temperature must be a number, got 'hot'"),
        (Logits, {"targets": 1.5}, r"targets = 1.5 is out of range \(allowed is \[0, 1\]\)"),
        (Logits, {"answer": "words"}, r"there is no answer 'words'"),
        (Features, {"weight": 0}, r"weight = 0 is out of range"),
        (Features, {"pairs": (("one",),)}, r"the pair \('one',\) does not name two places"),
        (Attention, {"sight": "far"}, r"there is no sight 'far'"),
        (Relations, {"distance": 0, "angle": 0}, r"distance and angle are both 0"),
        (Blocks, {"share": 0}, r"share = 0 is out of range"),
    ],
)
def test_losses_out_of_range_are_refused(kind, fields, told):
    with pytest.raises(TrainingError, match=told):
        kind(**fields)
