import pytest
from benchmarks.record import Record, append
from benchmarks.scoreboard import CONTESTS, Contest, lines, rewrite

ERROR = Contest("task", ("one", "two"), "ours", r"peer-\d", "relative", 0.5)
SPEED = Contest("speed", ("one",), "ours", "peer-1", "faster", inverse=True)


def add(folder, row, peer, *, seed=0, relative=0.0, faster=0.0):
    details = {"faster": faster}
    append(Record(row, "net", peer, "8%", seed, 1, 0.08, {"relative": relative}, details), folder)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_best_peer_counts_and_ratios_are_taken_seed_by_seed(tmp_path):
    for seed, value in enumerate((0.1, 0.3)):
        add(tmp_path, "one", "ours", seed=seed, relative=value)
        add(tmp_path, "two", "peer-1", seed=seed, relative=2 * value)
        add(tmp_path, "two", "peer-2", seed=seed, relative=4 * value)
    (line,) = lines([ERROR], tmp_path)
    assert cells(line)[3:] == ["`peer-1` 0.4", "0.50 (0.50 to 0.50)", "0.5", "won"]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(0.4, "won"), (0.8, "won, short of what was asked"), (1.2, "**lost**")],
)
def test_a_lost_row_says_so(tmp_path, error, verdict):
    add(tmp_path, "one", "ours", relative=error)
    add(tmp_path, "one", "peer-1", relative=1.0)
    (line,) = lines([ERROR], tmp_path)
    assert cells(line)[-1] == verdict


def test_more_is_better_for_a_speed(tmp_path):
    add(tmp_path, "one", "ours", faster=2.0)
    add(tmp_path, "one", "peer-1", faster=3.0)
    (line,) = lines([SPEED], tmp_path)
    assert cells(line)[4:] == ["1.50", "–", "**lost**"]


def test_what_one_side_did_not_measure_is_no_line(tmp_path):
    add(tmp_path, "one", "ours", relative=0.1)
    assert not list(lines([ERROR], tmp_path))


def test_the_page_is_rewritten_between_its_marks(tmp_path):
    add(tmp_path, "one", "ours", relative=0.1)
    add(tmp_path, "one", "peer-1", relative=0.4)
    page = "before\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nafter\n"
    written = rewrite(page, [ERROR], tmp_path)
    assert written.startswith("before\n") and written.endswith("after\n") and "old" not in written
    assert "| task | 8% | 0.1 |" in written
    assert rewrite(written, [ERROR], tmp_path) == written


def test_every_contest_names_rows_of_the_benchmark():
    pytest.importorskip("zstandard")  # what the rows import is in the benchmark's environment
    from benchmarks.rows import ROWS

    assert {row for contest in CONTESTS for row in contest.rows} <= ROWS.keys()
