"""judge: verdict per limit, sentences, regressions."""

import math

import numpy as np
import pytest

from lilliput.budget import Budget, Limit
from lilliput.errors import BudgetError
from lilliput.evidence import Evidence
from lilliput.ledger import Look
from lilliput.metrics import Accuracy, Agreement, Divergence, Metric, SquaredError
from lilliput.records import Drop, Latency, Measurement, RuntimeScore, Sizes
from lilliput.regressions import class_changes
from lilliput.stages.judge import Judgement, judge, with_summaries
from lilliput.verdicts import exit_status, number_text, overall, verdict_of


def sizes(storage: int, p50: float, memory: int) -> Sizes:
    latency = Latency(p50=p50, p95=2 * p50, batch=1, threads=2)
    return Sizes(
        storage_bytes=storage, installed_bytes=storage, latency_ms=latency, memory_bytes=memory
    )


MEASURED = Measurement(
    original=sizes(23_000_000, 6.0, 100_000_000),
    artifact=sizes(2_030_000, 3.0, 30_000_000),
    latency_ratio=(0.5, 0.45, 0.56),
    memory_ratio=(0.3, 0.29, 0.31),
)


def evidence(worse: int, better: int, examples: int) -> Evidence:
    """0/1 rows; class "a" takes all that got worse, "b" the rest."""
    before, after = np.ones((examples, 1)), np.ones((examples, 1))
    after[:worse] = 0
    before[worse : worse + better] = 0
    labels = tuple("a" if i < 2 * worse else "b" for i in range(examples))
    return Evidence(before, after, np.arange(examples) + 1000, np.arange(examples), labels)


def judged(
    budget: Budget, found: Evidence | None = None, metric: Metric | None = None
) -> Judgement:
    metric = metric or Accuracy()
    return judge(budget.limits, MEASURED, evidence=found, metric=metric, look=Look(1, 0.975))


@pytest.mark.parametrize(
    ("budget", "verdict"),
    [
        (Budget(storage="9%"), "proved"),
        (Budget(storage="8%"), "missed"),
        (Budget(storage=2_030_000), "proved"),
        (Budget(installed=2_029_999), "missed"),
        (Budget(memory="31%"), "proved"),
        (Budget(memory="30%"), "unproved"),
        (Budget(memory="28MB"), "missed"),
        (Budget(memory="31MB"), "proved"),
        (Budget(latency="56%"), "proved"),
        (Budget(latency="50%"), "unproved"),
        (Budget(latency="40%"), "missed"),
        (Budget(latency="3.4ms"), "proved"),
        (Budget(latency="2.6ms"), "missed"),
    ],
)
def test_sizes_and_times(budget: Budget, verdict: str) -> None:
    result = judged(budget)
    assert result.verdict == result.limits[0].verdict == verdict
    assert result.limits[0].asked_text in result.reasons[0]


def test_limits_are_stated_in_their_units() -> None:
    storage, latency = judged(Budget(storage="9%", latency="60%")).limits
    assert (storage.asked, storage.value, storage.upper) == (2_070_000, 2_030_000, 2_030_000)
    assert latency.asked == pytest.approx(3.6)
    assert (latency.lower, latency.upper) == pytest.approx((2.7, 3.36))


def test_too_few_rounds_leave_latency_open() -> None:
    measured = MEASURED.model_copy(update={"latency_ratio": (0.5, 0.0, math.inf)})
    result = judge(Budget(latency="60%").limits, measured, evidence=None, metric=None)
    assert (result.verdict, result.limits[0].upper) == ("unproved", None)
    assert "more measuring rounds" in result.reasons[0]
    silent = MEASURED.model_copy(update={"latency_ratio": None})
    result = judge(Budget(latency="60%").limits, silent, evidence=None, metric=None)
    assert "too few rounds" in result.reasons[0]


def test_what_was_not_measured_is_unproved() -> None:
    nothing = Measurement(original=Sizes(), artifact=Sizes())
    limits = (*Budget(storage="9%", latency="60%").limits, Limit("energy", 0.5, "share", "50%"))
    result = judge(limits, nothing, evidence=None, metric=None)
    assert [limit.verdict for limit in result.limits] == ["unproved"] * 3
    assert result.reasons[2] == "Energy was not measured; 50% was asked"


def test_a_drop_within_the_limit_is_proved_in_plain_words() -> None:
    result = judged(Budget(drop="1%"), evidence(20, 18, 6800))
    assert result.verdict == "proved"
    assert result.reasons == (
        "On 6,800 examples like yours on balance at most 0.22 of 100 answers get worse, "
        "97.5 % sure",
    )
    assert result.drop is not None
    assert (result.drop.flips, result.drop.look, result.drop.confidence) == (38, 1, 0.975)
    assert result.exit_status == 0


def test_a_drop_beyond_the_limit_is_missed() -> None:
    result = judged(Budget(drop="1%", storage="9%"), evidence(300, 10, 6800))
    assert (result.verdict, result.exit_status) == ("missed", 1)
    assert "at least 3.7 of 100 answers get worse" in result.reasons[1]


def test_an_open_drop_says_how_many_examples_would_settle_it() -> None:
    result = judged(Budget(drop="1%"), evidence(10, 9, 300))
    assert (result.verdict, result.exit_status) == ("unproved", 3)
    assert "but at most 1 was asked" in result.reasons[0]
    assert "A proof set of about " in result.reasons[1]
    assert "more) would settle it in 4 of 5 cases" in result.reasons[1]


def test_an_estimate_beyond_the_limit_is_settled_by_nothing() -> None:
    result = judged(Budget(drop="1%"), evidence(16, 11, 400))
    assert result.verdict == "unproved"
    assert "More examples would not settle it" in result.reasons[1]


def test_no_examples_prove_nothing_about_the_drop() -> None:
    result = judged(Budget(drop="1%", storage="9%"))
    assert (result.verdict, result.drop) == ("unproved", None)
    assert result.reasons[1] == "There are no examples, so no drop was measured; 1% was asked"


def test_few_groups_say_what_is_missing() -> None:
    rows = np.random.default_rng(0).random((50, 1))
    found = Evidence(rows, rows * 1.01, np.arange(50), np.arange(50))
    result = judged(Budget(drop="5%"), found, SquaredError())
    assert result.verdict == "unproved"
    assert "At least 100 independent examples" in result.reasons[1]


def test_percentages_of_unbounded_metrics_are_relative() -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((2000, 1)) + 1
    found = Evidence(rows, rows * 1.02, np.arange(2000), np.arange(2000))
    result = judged(Budget(drop="5%"), found, SquaredError())
    assert result.limits[0].value == pytest.approx(0.02)
    assert "mse gets at most 2" in result.reasons[0] and "% worse" in result.reasons[0]


def test_answers_that_are_no_numbers_are_never_proved() -> None:
    rows = np.random.default_rng(0).random((500, 1))
    broken = rows * 1.01
    broken[3] = np.nan
    found = Evidence(rows, broken, np.arange(500), np.arange(500))
    result = judged(Budget(drop="50%"), found, SquaredError())
    assert (result.verdict, result.limits[0].upper) == ("unproved", None)
    assert "1 answers are no numbers" in result.reasons[0]
    assert result.drop is not None
    assert (result.drop.worst[0].index, result.drop.worst[0].artifact) == (3, None)
    assert Drop.model_validate_json(result.drop.model_dump_json()) == result.drop


def test_a_percentage_of_a_divergence_is_refused() -> None:
    rows = np.zeros((200, 1))
    found = Evidence(rows, rows + 0.1, np.arange(200), np.arange(200))
    with pytest.raises(BudgetError, match="percentage"):
        judged(Budget(drop="1%"), found, Divergence())


def test_agreement_speaks_of_changed_answers() -> None:
    result = judged(Budget(drop=0.02), evidence(20, 0, 6800), Agreement())
    assert "of 100 answers change" in result.reasons[0]
    assert result.verdict == "proved"


def test_classes_are_sorted_by_regression() -> None:
    drop = judged(Budget(drop="1%"), evidence(20, 18, 6800)).drop
    assert drop is not None
    first, second = drop.per_class
    assert (first.label, first.examples, first.flips) == ("a", 40, 38)
    assert (first.original, first.artifact) == (22 / 40, 0.5)
    assert (second.label, second.flips, second.artifact) == ("b", 0, 1)


def test_classes_of_other_metrics_show_agreement() -> None:
    rows = np.random.default_rng(0).random((4, 2))
    found = Evidence(
        rows,
        rows,
        np.arange(4),
        np.arange(4),
        ("x", "x", "y", "y"),
        np.array([0, 0, 1, 1]),
        np.array([0, 1, 1, 1]),
    )
    first, second = class_changes(found)
    assert (first.label, first.original, first.artifact, first.flips) == ("x", 1, 0.5, 1)
    assert (second.label, second.artifact) == ("y", 1)


def test_worst_examples_point_into_the_task() -> None:
    drop = judged(Budget(drop="1%"), evidence(30, 18, 6800)).drop
    assert drop is not None
    assert [worst.index for worst in drop.worst] == list(range(1000, 1020))
    assert drop.worst[0].summary == "example 1000"
    named = with_summaries(drop, lambda index: f"sentence {index}")
    assert named.worst[1].summary == "sentence 1001"


def test_words_and_statuses() -> None:
    assert verdict_of(1.0, 0.2, 1.0) == "proved"
    assert verdict_of(1.0, 1.1, 2.0) == "missed"
    assert verdict_of(1.0, 1.0, 2.0) == verdict_of(1.0, None, None) == "unproved"
    assert overall(["proved", "missed", "unproved"]) == "missed"
    assert overall(["proved", "unproved"]) == "unproved"
    assert overall([]) == "proved"
    assert [exit_status(word) for word in ("proved", "missed", "unproved")] == [0, 1, 3]


@pytest.mark.parametrize(
    ("value", "up", "text"),
    [(0.4301, True, "0.44"), (0.4301, False, "0.43"), (1.0, True, "1"), (0.00021, True, "0.00021")],
)
def test_numbers_are_rounded_to_the_careful_side(value: float, up: bool, text: str) -> None:
    assert number_text(value, up=up) == text


def test_a_runtime_that_cannot_open_the_file_is_a_miss():
    problem = "OpenVINO cannot open the artifact: acme.Fold"
    stopped = RuntimeScore(name="openvino", problem=problem)
    sizes = Sizes(storage_bytes=23_000_000), Sizes(storage_bytes=2_030_000)
    found = Measurement(original=sizes[0], artifact=sizes[1], runtimes=(stopped,))
    asked = Budget(storage="9%", latency="50%", drop="1%").limits
    result = judge(asked, found, evidence=None, metric=Accuracy())
    verdicts = {limit.name: limit.verdict for limit in result.limits}
    assert verdicts == {"storage": "proved", "latency": "missed", "drop": "missed"}
    assert result.verdict == "missed"
    assert f"{problem}; 50% was asked" in result.reasons and problem in result.reasons
    assert judge(asked[:1], found, evidence=None, metric=None).verdict == "missed"
