"""The ledger of looks: counting, spending, and what a damaged file means."""

import json
import multiprocessing
from pathlib import Path

import pytest

from lilliput.errors import InputError, OutputError
from lilliput.ledger import Ledger, Look, look_confidence


def test_looks_are_counted_per_proof_set_and_tested_harder(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "looks.json")
    assert ledger.look("set", "a") == Look(1, 1 - 0.05 / 2)
    assert ledger.look("set", "b") == Look(2, 1 - 0.05 / 6)
    assert ledger.look("other", "b").number == 1
    assert Ledger(tmp_path / "looks.json").look("set", "c").number == 3


def test_the_same_files_are_no_new_look(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "looks.json")
    first = ledger.look("set", "a")
    ledger.look("set", "b")
    assert ledger.look("set", "a") == first
    assert ledger.look("set", "c").number == 3


def test_peeking_takes_no_look(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "looks.json")
    assert ledger.peek("set") == ledger.peek("set") == Look(1, 0.975)
    assert not (tmp_path / "looks.json").exists()
    ledger.look("set", "a")
    assert ledger.peek("set").number == 2
    assert ledger.peek("set", "a").number == 1


def test_all_looks_together_spend_five_percent() -> None:
    spent = sum(1 - look_confidence(k) for k in range(1, 2000))
    assert spent == pytest.approx(0.05 * 1999 / 2000)
    with pytest.raises(InputError, match="look number 0"):
        look_confidence(0)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"looks": {"set": "a"}}', '{"looks": {}, "more": 1}', "\x00\x01"],
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "looks.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"ledger of looks .* cannot be read"):
        Ledger(path).look("set", "a")
    assert path.read_text() == text


def test_bytes_that_are_no_text_and_newer_versions_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "looks.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        Ledger(path).peek("set")
    path.write_text(json.dumps({"schema_version": 2, "looks": {}}))
    with pytest.raises(InputError, match="version is 2"):
        Ledger(path).peek("set")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "gone" / "looks.json").look("set", "a")


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    Ledger(tmp_path / "looks.json").look("set", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["looks.json", "looks.json.lock"]


def take_looks(path: str, who: int) -> None:
    for turn in range(4):
        Ledger(path).look("set", f"{who}-{turn}")


def test_two_processes_never_take_the_same_look(tmp_path: Path) -> None:
    path = tmp_path / "looks.json"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=take_looks, args=(str(path), who)) for who in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert Ledger(path).peek("set").number == 9
