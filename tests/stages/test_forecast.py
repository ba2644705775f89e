"""What is said before work starts."""

import itertools
import re
import time
from collections import namedtuple

import psutil
import pytest

from classifiers import Perceptron, task_of, trained
from lilliput.budget import parse_limit
from lilliput.ledger import Look, look_confidence
from lilliput.metrics import metric_by_name
from lilliput.model.capture import capture
from lilliput.power import smallest_provable_drop
from lilliput.splits import Split
from lilliput.stages.forecast import Claim, forecast

FIRST, THIRD = Look(1, look_confidence(1)), Look(3, look_confidence(3))
ACCURACY = metric_by_name("accuracy")


@pytest.fixture(scope="module")
def known():
    task = task_of(trained(Perceptron), count=200)
    return task, capture(task.model, task.sample(2))


def told(known, *, proof=1000, drop="1%", metric=ACCURACY, look=FIRST):
    task, captured = known
    limit = None if drop is None else parse_limit("drop", drop)
    split = Split(tuple(range(50)), tuple(range(50, 100)), tuple(range(100, 100 + proof)))
    return forecast(task, captured, split, Claim(metric, limit, look))


def test_time_memory_and_examples_are_said_first(known):
    found = told(known)
    assert re.fullmatch(
        r"about \d+ min and \d+\.\d GB of memory; 50 examples calibrate, 50 steer, 1000 prove",
        found.lines[0],
    )
    assert 0 < found.minutes < 10
    parameters = known[1].parameters
    assert 4 * parameters < found.memory_bytes < 4e9


def test_more_examples_take_longer_and_prove_more(known, monkeypatch):
    ticks = itertools.cycle((0.0, 1.0))  # every measurement takes a second: no test trusts a clock
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    found = [told(known, proof=count) for count in (500, 2000, 8000)]
    chances = [f.chances for f in found]
    assert [f.minutes for f in found] == sorted(f.minutes for f in found)
    assert all(1 >= mild >= harsh >= 0 for mild, harsh in chances)
    assert [mild for mild, _ in chances] == sorted(mild for mild, _ in chances)
    assert chances[0][1] < 0.5 < 0.8 < chances[-1][1]
    assert any("would make it 80 %" in line for line in found[0].lines)
    assert not any("would make it 80 %" in line for line in found[-1].lines)


def test_too_few_examples_are_refused_the_claim_and_the_right_number_is_named(known):
    found = told(known, proof=150)
    (line,) = [line for line in found.lines if "cannot prove" in line]
    assert line.startswith("150 proof examples cannot prove a drop of 1%")
    needed = int(re.search(r"at least (\d+) are needed", line)[1])
    confidence = FIRST.confidence
    assert smallest_provable_drop(needed, confidence) <= 0.01
    assert smallest_provable_drop(needed - 1, confidence) > 0.01


def test_later_looks_must_hold_with_more_confidence(known):
    first, third = told(known), told(known, look=THIRD)
    (line,) = [line for line in third.lines if "asked 2 times before" in line]
    assert f"{THIRD.confidence:.2%}" in line
    assert third.chances[0] < first.chances[0]
    assert not any("times before" in line for line in first.lines)


def test_without_a_limit_or_examples_there_is_no_chance(known):
    assert told(known, drop=None).chances is None and len(told(known, drop=None).lines) == 1
    for found in (told(known, proof=0), told(known, metric=None)):
        assert found.chances is None
        assert (
            found.lines[-1] == "there are no examples, so nothing can be proved about the answers"
        )


def test_scores_that_are_not_0_or_1_need_a_hundred_examples(known):
    metric = metric_by_name("mse")
    assert "at least 100" in told(known, proof=99, drop="0.5", metric=metric).lines[-1]
    assert len(told(known, proof=100, drop="0.5", metric=metric).lines) == 1


def test_little_free_memory_is_said(known, monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1e8))
    assert any("less free memory" in line for line in told(known).lines)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1e12))
    assert not any("less free memory" in line for line in told(known).lines)
