"""The outcome in a sentence and in the terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from sample_reports import HOSTILE, bare, hostile, minilm, missed, unproved

from lilliput.records import Report
from lilliput.stages.summary import summary_sentence, summary_table


def _printed(report: Report, folder: Path | None = None) -> str:
    text = io.StringIO()
    Console(file=text, width=120, color_system=None).print(summary_table(report, folder))
    return text.getvalue()


def test_proved_in_words() -> None:
    assert summary_sentence(minilm(), Path("out")) == (
        "Ship out/model.lilliput: 10 of 11 bytes gone. On 6,800 examples like yours at most 0.43 "
        "of 100 answers get worse on balance, 95 % sure."
    )


def test_missed_names_the_limit_first() -> None:
    sentence = summary_sentence(missed())
    assert sentence.startswith("Do not ship model.lilliput: loss of quality missed. ")
    assert sentence.index("Even the best case") < sentence.index("The median is too close")


def test_unproved_says_what_is_open() -> None:
    sentence = summary_sentence(unproved())
    assert sentence.startswith("model.lilliput is not proved yet: loss of quality still open. ")
    assert "get worse" not in sentence  # the limit's reason speaks for the drop
    assert sentence.endswith("2,900 more examples would settle it.")


def test_no_data_is_said() -> None:
    assert summary_sentence(bare()) == (
        "The compressed model is unproved. 7 of 10 bytes gone. "
        "How much the answers suffered was not measured."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "agreement"}, "at most 0.43 of 100 answers differ from the original's"),
        ({"metric": "f1", "method": "bootstrap"}, "f1 gets worse by at most 0.43 points"),
        (
            {"metric": "perplexity", "method": "bootstrap"},
            "perplexity gets worse by at most 0.43 %",
        ),
        ({"upper": -0.0021}, "accuracy gets better by at least 0.21 points"),
        ({"upper": None}, "6,800 examples are too few to say"),
        ({"upper": float("inf")}, "6,800 examples are too few to say"),
        ({"confidence": 0.9875}, "98.75 % sure"),
    ],
)
def test_every_kind_of_drop(changes: dict[str, object], words: str) -> None:
    drop = minilm().drop
    assert drop is not None
    assert words in summary_sentence(minilm(drop=drop.model_copy(update=changes)))


def test_table_shows_limits_sizes_and_paths() -> None:
    text = _printed(minilm(), Path("out"))
    for words in ("✔ PROVED", "≤ 9 % (8.18 MB)", "8.09 MB", "−0.46 to 0.43 points", "0.7757"):
        assert words in text
    assert "out/report.html" in text
    assert "out/model.lilliput" in text


def test_table_shows_corrupted_inputs() -> None:
    text = _printed(minilm())
    assert "on 500 corrupted inputs" in text
    (row,) = [line for line in text.splitlines() if line.startswith("drop_tokens(rate=0.15)")]
    assert row.split()[1:] == ["0.742", "0.738", "0.4", "points", "≤", "2.2", "points"]
    assert "corrupted" not in _printed(bare())


def test_table_without_folder_or_measurements() -> None:
    text = _printed(bare())
    assert "? UNPROVED" in text
    assert "report.html" not in text
    assert "Limit" not in text


def test_hostile_names_reach_no_terminal() -> None:
    report = hostile().model_copy(update={"summary": ""})
    drop = report.drop
    assert drop is not None
    evil = drop.model_copy(update={"metric": "[bold]x[/bold] " + HOSTILE[-1]})
    text = _printed(report.model_copy(update={"drop": evil}), Path("out"))
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text
