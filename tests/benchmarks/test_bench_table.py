from benchmarks.record import Record, append, read
from benchmarks.table import rewrite, spread


def record(peer, seed, error, setting="int4"):
    return Record("row", "net", peer, setting, seed, 100 + seed, 0.1, {"relative": error})


def test_records_come_back(tmp_path):
    for seed in range(2):
        append(record("a", seed, 0.5), tmp_path)
    assert read("row", tmp_path) == [record("a", 0, 0.5), record("a", 1, 0.5)]
    assert read("other", tmp_path) == []


def test_table_has_medians_and_spread_in_order(tmp_path):
    for peer, errors in {"good": (0.1, 0.2, 0.15), "bad": (0.4, 0.3, 0.5)}.items():
        for seed, error in enumerate(errors):
            append(record(peer, seed, error), tmp_path)
    text = "before\n<!-- benchmarks:row -->\nold\n<!-- /benchmarks -->\nafter\n"
    filled = rewrite(text, tmp_path)
    assert "| int4 | bad | 10.00 | 0.400 (0.300 to 0.500) |" in filled
    assert filled.index("| bad |") < filled.index("| good |")
    assert "old" not in filled
    assert filled.startswith("before\n") and filled.endswith("after\n")
    assert rewrite(filled, tmp_path) == filled


def test_rows_without_results_say_so(tmp_path):
    text = "<!-- benchmarks:none -->\n<!-- /benchmarks -->"
    assert "Not measured yet." in rewrite(text, tmp_path)


def test_one_value_has_no_spread():
    assert spread([0.1234]) == "0.123"


def test_details_are_columns_where_anybody_has_them(tmp_path):
    for seed, (proved, upper) in enumerate([(True, 0.004), (False, 0.012), (True, 0.006)]):
        details = {"proved": proved, "flips": 200 + seed, "note": "not shown"}
        errors = {"upper": upper}
        append(Record("row", "net", "ours", "9.0%", seed, 100, 0.09, errors, details), tmp_path)
    append(Record("row", "net", "plain", "9.0%", 0, 100, 0.09, {"upper": 0.5}), tmp_path)
    append(Record("row", "net", "bare", "6.5%", 0, 100, 0.09, {}, {"seconds": 61.4}), tmp_path)
    filled = rewrite("<!-- benchmarks:row -->\n<!-- /benchmarks -->\n", tmp_path)
    lines = filled.splitlines()[1:-1]
    assert lines[0] == (
        "| setting | what | % of fp32 bytes | upper bound × 100 | flips | proved | seconds |"
    )
    assert lines[2:] == [
        "| 9.0% | plain | 9.00 | 50.00 | – | – | – |",
        "| 9.0% | ours | 9.00 | 0.60 (0.40 to 1.20) | 201 (200 to 202) | 2 of 3 | – |",
        "| 6.5% | bare | 9.00 | – | – | – | 61 |",
    ]


def test_settings_without_a_number_keep_together_and_words_are_shown(tmp_path):
    for setting, floats in {"openvino": "bfloat16", "onnxruntime": "float32"}.items():
        for peer, error in {"good": 0.1, "bad": 0.2}.items():
            details = {"floats_as": floats, "faster_batch_1": 1.5}
            errors = {"same_top_1": 1 - error}
            append(Record("row", "net", peer, setting, 0, 100, 0.25, errors, details), tmp_path)
    filled = rewrite("<!-- benchmarks:row -->\n<!-- /benchmarks -->\n", tmp_path)
    lines = filled.splitlines()[1:-1]
    assert lines[0].endswith("| same top-1, % | floats as | times faster, batch 1 |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| onnxruntime"] * 2 + [
        "| openvino"
    ] * 2
    assert lines[-1] == "| openvino | bad | 25.00 | 80.0 | bfloat16 | 1.50 |"
